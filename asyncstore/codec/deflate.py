"""The deflate implementation of this machine: isal where it has a wheel, otherwise the standard library's zlib."""

from __future__ import annotations

import zlib
from typing import Final, Protocol, cast

from asyncstore.types import Buffer


class Compressor(Protocol):
    def compress(self, data: Buffer, /) -> bytes: ...
    def flush(self, mode: int = ..., /) -> bytes: ...


class Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def unconsumed_tail(self) -> bytes: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: Buffer, /, max_length: int = 0) -> bytes: ...


class Deflate(Protocol):
    """What is used of zlib's interface, which isal offers too."""

    Z_SYNC_FLUSH: int
    error: type[Exception]

    def compressobj(self, level: int, method: int, wbits: int) -> Compressor: ...
    def decompressobj(self, wbits: int) -> Decompressor: ...
    def crc32(self, data: Buffer, value: int = 0, /) -> int: ...


def _fastest() -> Deflate:
    try:
        from isal import isal_zlib
    except ImportError:
        return ZLIB
    return cast("Deflate", isal_zlib)


ZLIB: Final = cast("Deflate", zlib)
FASTEST: Final = _fastest()


def crc32(data: Buffer, value: int = 0) -> int:
    """Return the CRC-32 of ``data``, continued from ``value``: 10 GB/s with isal, 1 GB/s without."""
    return FASTEST.crc32(data, value)
