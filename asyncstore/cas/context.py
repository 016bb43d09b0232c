"""What the operations of one content-addressed store share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from asyncstore.cas.cache import BlobCache
from asyncstore.cas.known import KnownBlobs
from asyncstore.codec.base import Codec
from asyncstore.concurrency import SingleFlight
from asyncstore.layout import blob_path
from asyncstore.runtime import Runtime
from asyncstore.storage.base import DataStoreStorage, SupportsBatch
from asyncstore.types import KIB, MIB, Key

SMALL = 256 * KIB
"""Blobs up to this size travel in batches: one thread hop hashes and packs about 64 of them."""

BATCH_BYTES = MIB
BATCH_ITEMS = 64

WHOLE = 4 * MIB
"""Blobs up to this size are held whole, content and packed form; longer ones go through in pieces."""


@dataclass(slots=True)
class CasContext:
    """Configuration and memory of one store."""

    prefix: str
    storage: DataStoreStorage
    codec: Codec
    cache: BlobCache | None
    known: KnownBlobs = field(default_factory=KnownBlobs)
    loads: SingleFlight[bytes] = field(default_factory=SingleFlight[bytes])

    @property
    def runtime(self) -> Runtime:
        return self.storage.runtime

    @property
    def batch(self) -> SupportsBatch | None:
        return self.storage.power(SupportsBatch)

    @property
    def workers(self) -> int:
        """Tasks that keep all threads busy: one more than there are threads, to prepare while they work."""
        return self.runtime.limits.threads + 1

    def path(self, key: Key) -> str:
        return blob_path(self.prefix, key)

    def paths(self, keys: Iterable[Key]) -> list[str]:
        return [blob_path(self.prefix, key) for key in keys]

    def uri(self, key: Key) -> str:
        return f"{self.storage.root.rstrip('/')}/{self.path(key)}"
