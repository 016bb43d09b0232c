"""Drive Metaflow's own content-addressed store; runs in Metaflow's environment, where asyncstore is not installed.

    metaflow_driver.py save ROOT PREFIX DIRECTORY [--raw]    files there, by name -> [{"name", "key", "uri"}]
    metaflow_driver.py load ROOT PREFIX DIRECTORY KEY ...    one file a key there -> {key: "loaded"}

ROOT is a directory or an s3:// URL; the answer is JSON on standard output.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def open_store(root: str, prefix: str) -> Any:
    from metaflow.datastore.content_addressed_store import ContentAddressedStore

    if root.startswith("s3://"):
        from metaflow.plugins.datastores.s3_storage import S3Storage as Storage
    else:
        from metaflow.plugins.datastores.local_storage import LocalStorage as Storage
    return ContentAddressedStore(prefix, Storage(root))


def save(store: Any, directory: Path, *flags: str) -> list[dict[str, Any]]:
    files = sorted(directory.iterdir())
    blobs = (file.read_bytes() for file in files)
    saved = store.save_blobs(blobs, raw="--raw" in flags, len_hint=len(files))
    return [{"name": file.name, "key": one.key, "uri": one.uri} for file, one in zip(files, saved, strict=True)]


def load(store: Any, directory: Path, *keys: str) -> dict[str, str]:
    loaded = {}
    for key, content in store.load_blobs(list(keys)):
        (directory / key).write_bytes(content)
        loaded[key] = "loaded"
    return loaded


def main(command: str, root: str, prefix: str, directory: str, *rest: str) -> None:
    run: Any = {"save": save, "load": load}[command]
    answer = run(open_store(root, prefix), Path(directory), *rest)
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
