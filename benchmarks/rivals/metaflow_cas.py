"""Metaflow's own content-addressed store over its own storage; imported in Metaflow's environment only."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any


class Rival:
    def __init__(self, prefix: str = "Bench/data") -> None:
        self._prefix = prefix

    def save(self, root: str, blobs: list[bytes]) -> list[str]:
        return [saved.key for saved in self._store(root).save_blobs(iter(blobs), len_hint=len(blobs))]

    def load(self, root: str, keys: list[str]) -> list[bytes]:
        loaded = dict(self._store(root).load_blobs(keys))
        return [loaded[key] for key in keys]

    def _store(self, root: str) -> Any:
        from metaflow.datastore.content_addressed_store import ContentAddressedStore

        if root.startswith("s3://"):
            from metaflow.plugins.datastores.s3_storage import S3Storage as Storage
        else:
            from metaflow.plugins.datastores.local_storage import LocalStorage as Storage
        return ContentAddressedStore(self._prefix, Storage(root))


def versions() -> dict[str, str]:
    return {"metaflow": version("metaflow")}
