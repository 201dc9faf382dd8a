"""Checks of the chart, for scripts/test-chart: prints what is wrong, a line each, and exits 1 when anything is.

usage: chart schemas VERSION FILE...             against the schemas of one Kubernetes version
       chart versions                            Kubernetes versions there are schemas of
       chart pod-security|rbac|blanks FILE...    Pod Security `restricted`; rights; leftovers of templates
       chart contract RELEASE NAMESPACE FILE...  what clients count on
       chart images FILE IMAGE [SECRET...]       the image of every pod, and the secrets to pull it with
       chart values CHART                        values.yaml, its schema and README.md agree
       chart rights CHART FILE                   README.md names every right
       chart objects FILE [KIND]                 the objects, sorted, without those of one kind
       chart nulls CHART                         one values file a line, in JSON: each key set to null
       chart write-readme CHART                  puts the table of values into README.md
       chart negatives CHART RELEASE NAMESPACE FILE   each check on spoilt manifests: `ok` or `FAILED` lines
"""

import json
import sys
from pathlib import Path

import blanks
import contract
import manifests
import pod_security
import rbac
import values


def main(command, *arguments):
    """Runs one command; the exit code says whether anything was wrong. Slow imports are made where they are needed."""
    match command, arguments:
        case "schemas", (version, *files):
            import schemas

            found = in_files(files, lambda rendered: schemas.problems(rendered, version))
        case "pod-security", files:
            found = in_files(files, pod_security.problems)
        case "rbac", files:
            found = in_files(files, rbac.problems)
        case "blanks", files:
            found = in_files(files, blanks.problems)
        case "contract", (release, namespace, *files):
            found = in_files(files, lambda rendered: contract.problems(rendered, release, namespace))
        case "images", (file, image, *secrets):
            found = in_files([file], lambda rendered: of_images(rendered, image, secrets))
        case "values", (chart,):
            found = values.problems(chart)
        case "rights", (chart, file):
            found = values.of_rights(Path(chart, "README.md").read_text(encoding="utf-8"), manifests.load(file))
        case "versions", ():
            import schemas

            print("\n".join(schemas.versions()))
            return 0
        case "objects", (file, *without):
            objects = (json.dumps(doc, sort_keys=True) for doc in manifests.load(file).docs if doc["kind"] not in without)
            print("\n".join(sorted(objects)))
            return 0
        case "nulls", (chart,):
            for key, _, _ in values.keys(Path(chart, "values.yaml").read_text(encoding="utf-8"), groups=True):
                print(nulled(key))
            return 0
        case "write-readme", (chart,):
            values.write_readme(chart)
            return 0
        case "negatives", (chart, release, namespace, file):
            import negatives

            for name, good, said in negatives.run(file, release, namespace, Path(chart)):
                print(f"ok {name}" if good else f"FAILED {name}: it said {said}")
            return 0
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    problems = list(found)
    for problem in problems:
        print(problem)
    return 1 if problems else 0


def in_files(files, check):
    """The problems of each file, under its name."""
    if not files:
        yield "no file to check"
    for file in files:
        for problem in check(manifests.load(file)):
            yield f"{Path(file).name}: {problem}"


def of_images(rendered, image, secrets):
    """Every pod has this image and pulls it with these secrets."""
    for name, _, spec in rendered.pods():
        for container in spec["containers"]:
            if container["image"] != image:
                yield f"{name}: image {container['image']}, not {image}"
        if [secret["name"] for secret in spec.get("imagePullSecrets", [])] != secrets:
            yield f"{name}: pull secrets {spec.get('imagePullSecrets')}, not {secrets}"


def nulled(key):
    """A values file that sets one key to null."""
    document = None
    for part in reversed(key.split(".")):
        document = {part: document}
    return json.dumps(document)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:] or [""]))
