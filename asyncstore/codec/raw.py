"""Content stored as it is: what Metaflow marks ``cas_raw`` and reads without decoding."""

from __future__ import annotations

from collections.abc import Iterator

from asyncstore.codec.gzip import VERSION
from asyncstore.errors import TooLargeError
from asyncstore.types import KIB, MIB, Attributes, Buffer


class RawCodec:
    """No transformation."""

    name = "raw"
    piece_size = 512 * KIB

    def __repr__(self) -> str:
        return "RawCodec()"

    def attributes(self, size: int) -> Attributes:
        return {"cas_raw": True, "cas_version": VERSION, "cas_size": size}

    def header(self) -> bytes:
        return b""

    def piece(self, data: Buffer) -> bytes:
        return bytes(data)

    def trailer(self, size: int, crc32: int) -> bytes:  # noqa: ARG002  # other codecs end with these
        return b""

    def compress(self, data: Buffer) -> Buffer:
        """Return ``data`` itself."""
        return data

    def decompress(self, data: Buffer, *, max_size: int) -> bytes:
        if len(data) > max_size:
            raise TooLargeError(
                f"raw content of {len(data)} bytes is larger than the {max_size} bytes that are allowed"
            )
        return bytes(data)

    def decoder(self) -> _RawDecoder:
        return _RawDecoder()

    def min_stored_size(self, size: int) -> int:
        return size

    def max_stored_size(self, size: int) -> int:
        return size


class _RawDecoder:
    def decode(self, data: Buffer) -> Iterator[Buffer]:
        view = memoryview(data)
        for at in range(0, len(view), MIB):
            yield view[at : at + MIB]

    def finish(self) -> None:
        """Any content may end anywhere."""
