"""Manifests against the schemas of one Kubernetes version, strictly: a field that version does not know is an error."""

import functools

from kubernetes_validate import utils

# The definitions are a megabyte a version, and read again for each object otherwise.
utils.schema_contents = functools.lru_cache(maxsize=None)(utils.schema_contents)

OLDEST = (1, 25)


def versions():
    """Every version there are schemas of, from the oldest that the chart installs on."""
    numbers = sorted({tuple(map(int, version.split(".")[:2])) for version in utils.all_versions()})
    return [f"{major}.{minor}" for major, minor in numbers if (major, minor) >= OLDEST]


def problems(manifests, version):
    """What the API server of that version would not accept. A kind it does not know is a problem too."""
    for doc in manifests.docs:
        name = f"{doc.get('kind')} {doc.get('metadata', {}).get('name')}"
        try:
            used = utils.validate(doc, version, strict=True)
        except utils.ValidationError as error:
            where = ".".join(str(part) for part in error.path)
            yield f"{name}: Kubernetes {version}: {where}: {error.message}"
        except (utils.SchemaNotFoundError, utils.InvalidSchemaError, utils.VersionNotSupportedError) as error:
            yield f"{name}: Kubernetes {version}: {error.message}"
        else:
            if used != version:
                yield f"{name}: no schema of Kubernetes {version}, only of {used}"
