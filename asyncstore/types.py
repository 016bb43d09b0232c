"""Values that all floors share: frozen, with the unit and the ends of each field."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, NewType, Protocol, TypeAlias, runtime_checkable

from asyncstore.errors import ConfigError, InvalidNameError

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

Key = NewType("Key", str)
"""SHA-1 of a blob's content: 40 lower-case hexadecimal digits. Made by `parse_key` or by hashing."""

Buffer: TypeAlias = bytes | bytearray | memoryview
"""Contiguous bytes. Whoever is given one does not keep it after the call returned."""

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
Attributes: TypeAlias = Mapping[str, Json]
"""The small JSON document stored with an object: at most 2000 bytes as ASCII JSON."""

WriteMode: TypeAlias = Literal["overwrite", "create"]
Durability: TypeAlias = Literal["fast", "safe", "paranoid"]
Transport: TypeAlias = Literal["auto", "sdk"]

_HEX = frozenset("0123456789abcdef")


def parse_key(text: str) -> Key:
    """Return ``text`` as a key, or raise `InvalidNameError`."""
    if len(text) != 40 or not _HEX.issuperset(text):
        raise InvalidNameError(
            f"{text!r} is not a key: a key is the 40 lower-case hexadecimal digits of a SHA-1", where=text
        )
    return Key(text)


@runtime_checkable
class ChunkSource(Protocol):
    """A blob that can be walked more than once, in pieces.

    ``chunks`` is synchronous and runs in the store's threads. It is called twice (the key must be known before the
    path exists) and must give the same bytes each time; otherwise the save raises `SourceChangedError`.
    """

    def chunks(self) -> Iterator[Buffer]: ...


BlobSource: TypeAlias = "Buffer | os.PathLike[str] | ChunkSource"


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Bytes ``start`` (inclusive, from 0) to ``stop`` (exclusive; None is the end of the object)."""

    start: int
    stop: int | None = None

    def __post_init__(self) -> None:
        if self.start < 0 or (self.stop is not None and self.stop <= self.start):
            raise ConfigError(f"byte range {self.start}:{self.stop} is empty or negative")


def _empty() -> dict[str, Any]:
    # Not dict[str, Json]: to call a generic alias takes five times as long.
    return {}


@dataclass(frozen=True, slots=True)
class ObjectMeta:
    """What a storage knows of one object.

    ``size`` in stored bytes of the whole object, also in answers to a range. ``etag`` changes whenever the object
    does. ``checksums`` maps an algorithm's name to its lower-case hexadecimal digest, where the storage has one.
    """

    size: int
    etag: str | None = None
    modified: datetime | None = None
    attributes: Attributes = field(default_factory=_empty)
    checksums: Mapping[str, str] = field(default_factory=_empty)


@dataclass(frozen=True, slots=True)
class ListEntry:
    """One result of a listing: an object, or a directory (size, etag and modified are None)."""

    path: str
    kind: Literal["object", "directory"]
    size: int | None = None
    etag: str | None = None
    modified: datetime | None = None


@dataclass(frozen=True, slots=True)
class TaskPath:
    """Address of one task inside a flow."""

    run: str
    step: str
    task: str


@dataclass(frozen=True, slots=True)
class Limits:
    """What a `Runtime` may use at once.

    ``memory`` in bytes for blobs under way; ``threads`` for hashing, compression and files; ``requests`` in flight;
    ``max_blob_bytes`` is the largest decoded size accepted of one blob.
    """

    memory: int = 256 * MIB
    threads: int = field(default_factory=lambda: min(32, max(2, os.cpu_count() or 2)))
    requests: int = 64
    max_blob_bytes: int = 64 * GIB

    def __post_init__(self) -> None:
        for name in ("memory", "threads", "requests", "max_blob_bytes"):
            if getattr(self, name) < 1:
                raise ConfigError(f"limit {name} must be at least 1, not {getattr(self, name)}")


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Deadlines of one request, in seconds; ``min_rate`` in bytes per second."""

    connect: float = 10.0
    idle: float = 30.0
    min_rate: int = 65536
    total: float | None = None

    def __post_init__(self) -> None:
        if self.connect <= 0 or self.idle <= 0 or self.min_rate <= 0 or (self.total is not None and self.total <= 0):
            raise ConfigError(f"timeouts must be positive: {self}")

    def for_bytes(self, size: int) -> float:
        """Return the deadline in seconds of a request that moves ``size`` bytes."""
        deadline = self.connect + self.idle + size / self.min_rate
        return deadline if self.total is None else min(deadline, self.total)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often a failed request is tried again: ``attempts`` in all, delays and ``total`` in seconds.

    ``total`` bounds attempts and sleeps together.
    """

    attempts: int = 8
    base: float = 0.1
    cap: float = 10.0
    total: float = 180.0

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.base <= 0 or self.cap < self.base or self.total <= 0:
            raise ConfigError(f"retry policy out of range: {self}")
