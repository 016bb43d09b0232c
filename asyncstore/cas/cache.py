"""The hook for a cache of decoded blobs, as Metaflow's ``BlobCache`` in ``datastore/content_addressed_store.py``."""

from __future__ import annotations

from typing import Protocol

from asyncstore.types import Key


class BlobCache(Protocol):
    """Keeps the content of blobs near the reader.

    Asked before each load and given what was loaded. What it returns is hashed like everything else: damaged content
    is ignored and loaded anew. A cache that cannot read or write must not fail the load; it returns None, or does
    nothing.
    """

    async def load_key(self, key: Key) -> bytes | None: ...

    async def store_key(self, key: Key, blob: bytes) -> None: ...
