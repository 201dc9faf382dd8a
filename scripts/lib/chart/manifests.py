"""Rendered manifests as the checks want them: parsed, with the text at hand for what YAML drops."""

from dataclasses import dataclass, field
from pathlib import Path

import yaml


@dataclass
class Manifests:
    """One rendering of the chart. `text` is what helm wrote, `docs` the objects in it."""

    text: str
    docs: list = field(default_factory=list)

    def of(self, kind):
        """The objects of one kind."""
        return [doc for doc in self.docs if doc["kind"] == kind]

    def pods(self):
        """What a pod is made from: (name for messages, metadata, spec)."""
        for doc in self.of("Pod"):
            yield f"Pod {doc['metadata']['name']}", doc["metadata"], doc["spec"]
        for doc in self.of("Deployment"):
            template = doc["spec"]["template"]
            yield f"Deployment {doc['metadata']['name']}", template["metadata"], template["spec"]


class NoDuplicates(yaml.SafeLoader):
    """PyYAML takes the last of two equal keys without a word; an API server that validates strictly refuses them."""

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key given twice: {key.value}", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def parse(text):
    """Parses what `helm template` printed; documents of comments alone are nothing."""
    return Manifests(text, [doc for doc in yaml.load_all(text, NoDuplicates) if doc is not None])


def load(path):
    """Parses a file."""
    return parse(Path(path).read_text(encoding="utf-8"))
