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
from asyncstore.storage.base import DataStoreStorage, SupportsBareReads, SupportsBatch
from asyncstore.types import KIB, MIB, Key

SMALL = 256 * KIB
"""Blobs up to this size travel in batches: one thread hop hashes and packs as many as fill one."""

BATCH_BYTES = MIB
BATCH_ITEMS = 256
"""More blobs to a batch find more of them in one directory, which local disk opens and locks once: with 256 instead of
64, saving 1 KiB blobs costs 10 % less there."""

WHOLE = 4 * MIB
"""Blobs up to this size are held whole, content and packed form; longer ones go through in pieces."""

WHOLE_CONTENT = 16 * MIB
"""Most content that one thread hop makes of stored bytes; what expands further is streamed, however small it is stored:
1 GiB of zeros takes 1 MiB."""


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
    def bare(self) -> SupportsBareReads | None:
        return self.storage.power(SupportsBareReads)

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
