"""Prints what is in a docker-archive: bytes of its files, bytes of its layers compressed, layers, user, entrypoint."""

import gzip
import io
import json
import sys
import tarfile

with tarfile.open(sys.argv[1]) as archive:

    def read(name):
        return archive.extractfile(name).read()

    manifest = json.loads(read("manifest.json"))[0]
    config = json.loads(read(manifest["Config"]))["config"]
    files = compressed = 0
    for layer in map(read, manifest["Layers"]):
        if layer[:2] == b"\x1f\x8b":
            layer = gzip.decompress(layer)
        compressed += len(gzip.compress(layer, 6))
        with tarfile.open(fileobj=io.BytesIO(layer)) as members:
            files += sum(member.size for member in members)
    print(files, compressed, len(manifest["Layers"]), config.get("User"), *config["Entrypoint"])
