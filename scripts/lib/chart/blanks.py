"""What a template leaves behind when a value it counted on is not there."""

import re

LEFTOVERS = re.compile(r"<no value>|<nil>|%!\w?\(|\bmap\[|\{\{|\}\}")
# Empty is meant: the core group of an RBAC rule, and a claim that asks for no StorageClass.
MEANT = re.compile(r"\.apiGroups\[\d+\]$|\.spec\.storageClassName$")


def problems(manifests):
    """Leftovers in the text; nulls, empty strings, maps and lists in the objects; no object at all."""
    if not manifests.docs:
        yield "nothing was rendered"
    yield from of_text(manifests.text)
    for doc in manifests.docs:
        for path in empties(doc, f"{doc.get('kind')} {doc.get('metadata', {}).get('name')}: "):
            if not MEANT.search(path):
                yield f"{path} is empty"


def of_text(text):
    """Leftovers, by line."""
    for number, line in enumerate(text.splitlines(), 1):
        if found := LEFTOVERS.search(line):
            yield f"line {number}: {found.group()} in: {line.strip()}"


def empties(value, path):
    """Paths of empty values below one."""
    if isinstance(value, dict) and value:
        for key, below in value.items():
            yield from empties(below, f"{path}.{key}")
    elif isinstance(value, list) and value:
        for index, below in enumerate(value):
            yield from empties(below, f"{path}[{index}]")
    elif value is None or value in ("", {}, []):
        yield path
