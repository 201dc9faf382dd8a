"""values.yaml tells what every key means, README.md repeats it in a table, values.schema.json knows the same keys."""

import json
import re
from pathlib import Path

import yaml

BEGIN = "<!-- Begin of the table; `scripts/test-chart --write-readme` makes it from values.yaml. -->\n"
END = "<!-- End of the table. -->\n"


def problems(chart):
    """Keys without a sentence, keys the schema does not know or knows alone, a README that says something else."""
    names = ("values.yaml", "values.schema.json", "README.md")
    yield from of_texts(*(Path(chart, name).read_text(encoding="utf-8") for name in names))


def of_texts(text, schema, readme):
    """The same for the three texts."""
    schema = json.loads(schema)
    yield from of_comments(text)
    yield from of_schema(yaml.safe_load(text), schema, schema)
    yield from of_readme(text, readme)


def of_comments(text):
    """A key without a sentence above it."""
    for key, _, meaning in keys(text, groups=True):
        if not meaning.endswith("."):
            yield f"values.yaml: {key} has no sentence above it"


def of_schema(values, schema, root, path=""):
    """Both know the same keys, at every level at which the schema names keys."""
    schema = root["definitions"][schema["$ref"].rsplit("/", 1)[1]] if "$ref" in schema else schema
    known = schema.get("properties")
    if known is None or not isinstance(values, dict):
        return
    if schema.get("additionalProperties") is not False and path != "global.":
        yield f"values.schema.json: {path or 'the top'} takes any key"
    for key in values.keys() - known.keys():
        yield f"values.schema.json: {path}{key} is missing"
    if "Probe" not in path:
        for key in known.keys() - values.keys():
            yield f"values.yaml: {path}{key} is missing"
    for key in values.keys() & known.keys():
        yield from of_schema(values[key], known[key], root, f"{path}{key}.")


def of_readme(text, readme):
    """The table of the README is the one that values.yaml makes."""
    if BEGIN not in readme or END not in readme:
        yield "README.md: no marks of the table"
        return
    told = readme.split(BEGIN)[1].split(END)[0].splitlines()
    wanted = table(text).splitlines()
    for line in wanted:
        if line not in told:
            yield f"README.md: not in the table: {line}"
    for line in told:
        if line not in wanted:
            yield f"README.md: no longer true: {line}"
    if sorted(told) == sorted(wanted) and told != wanted:
        yield "README.md: the table is in another order"


def of_rights(readme, manifests):
    """The README names every resource of every role."""
    for role in manifests.of("ClusterRole") + manifests.of("Role"):
        for rule in role["rules"]:
            for word in rule["resources"] + rule["verbs"] + rule.get("resourceNames", []):
                if not re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", readme):
                    yield f"README.md: does not say that the agent may {rule['verbs']} {word}"


def write_readme(chart):
    """Puts the table into the README."""
    path = Path(chart, "README.md")
    readme = path.read_text(encoding="utf-8")
    before, rest = readme.split(BEGIN)
    text = Path(chart, "values.yaml").read_text(encoding="utf-8")
    path.write_text(before + BEGIN + table(text) + END + rest.split(END)[1], encoding="utf-8")


def table(text):
    """The table in Markdown, defaults as JSON."""
    rows = ["| key | default | meaning |", "|---|---|---|"]
    for key, default, meaning in keys(text):
        shown = default if isinstance(default, str) and default else json.dumps(default)
        rows.append(f"| `{key}` | `{shown}` | {meaning} |".replace("\\", ""))
    return "\n".join(rows) + "\n"


def keys(text, groups=False):
    """(path, default, comment) of every key. A map is a group, and taken apart, when keys in it have comments of their own."""
    lines = text.splitlines()

    def comment(node):
        above = []
        number = node.start_mark.line
        while number > 0 and lines[number - 1].strip().startswith("#"):
            number -= 1
            above.insert(0, lines[number].strip().lstrip("#").strip())
        return " ".join(above)

    def walk(node, values, path):
        for key, value in node.value:
            name = f"{path}{key.value}"
            inner = isinstance(value, yaml.MappingNode) and any(comment(below) for below, _ in value.value)
            if groups or not inner:
                yield name, values[key.value], comment(key)
            if inner:
                yield from walk(value, values[key.value], f"{name}.")

    yield from walk(yaml.compose(text), yaml.safe_load(text), "")
