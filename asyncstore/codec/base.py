"""The codec contract: pure functions on bytes, safe to call from any thread."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from asyncstore.types import Attributes, Buffer


class Decoder(Protocol):
    """Decodes one stored object that comes in pieces; used by one thread at a time."""

    def decode(self, data: Buffer) -> Iterator[Buffer]:
        """Give the content that ``data`` adds, in pieces of at most 1 MiB. Raises `CodecError`."""
        ...

    def finish(self) -> None:
        """Raise `CodecError` if the stored object ends too early."""
        ...


class Codec(Protocol):
    """One stored form of a blob.

    A stream is ``header() + piece(p0) + piece(p1) + … + trailer(size, crc32)`` over consecutive pieces of
    ``piece_size`` bytes of content (the last may be shorter; empty content has no piece). Pieces are independent of
    each other, so that threads can make them in any order.
    """

    @property
    def name(self) -> str: ...

    @property
    def piece_size(self) -> int: ...

    def attributes(self, size: int) -> Attributes:
        """Return the attributes to store with a blob of ``size`` bytes of content."""
        ...

    def header(self) -> bytes: ...

    def piece(self, data: Buffer) -> bytes: ...

    def trailer(self, size: int, crc32: int) -> bytes: ...

    def compress(self, data: Buffer) -> Buffer:
        """Return the whole stream for content that is in memory."""
        ...

    def decompress(self, data: Buffer, *, max_size: int) -> bytes:
        """Return the content of a whole stream.

        Raises `CodecError`, and `TooLargeError` if there are more than ``max_size`` bytes.
        """
        ...

    def decoder(self) -> Decoder: ...

    def min_stored_size(self, size: int) -> int:
        """Return the fewest bytes in which any writer's stream of ``size`` bytes of content can be stored."""
        ...

    def max_stored_size(self, size: int) -> int:
        """Return the most bytes that this codec's own stream of ``size`` bytes of content can take."""
        ...
