"""Gzip, as Metaflow stores blobs (``cas_version`` 1; Metaflow 2.19, datastore/content_addressed_store.py).

One member, made of independent deflate pieces that each end on a byte boundary, so that all cores can make it and
every reader of gzip can read it. Not many members: CPython's ``gzip.decompress`` is quadratic in their number.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Generator, Iterator
from typing import Any

from asyncstore.codec.deflate import FASTEST, ZLIB, Decompressor, Deflate
from asyncstore.errors import CodecError, TooLargeError
from asyncstore.types import KIB, Attributes, Buffer

VERSION = 1

# RFC 1952: magic, deflate, no flags, mtime 0 (the same content gives the same bytes), fastest, unknown system.
_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x04\xff"
_FLAGS = 3  # index of the header's byte that says which fields follow
_LAST_BLOCK = b"\x03\x00"  # an empty final block, after pieces that are none
_FLUSH = b"\x00\x00\x00\xff\xff"  # an empty stored block, with which every piece ends as after a sync flush
_CHECKS = struct.Struct("<II")
_STORED = struct.Struct("<BHH")
_STORED_BYTES = 0xFFFF  # the most that a stored block of deflate holds
_DENSEST = 1032  # deflate's best: 258 bytes of content for one bit of length and one of distance
_GZIP = 31  # zlib's wbits for a gzip member, header and checks included
_RAW_DEFLATE = -15
_SLICE = 64 * KIB  # of input: what a decompressor copies of it when it must stop is bounded by this
_PIECE_OUT = 256 * KIB  # of content: stays in the cache until it is hashed
# Below this many stored bytes zlib starts faster (0.7 us) than isal does (1.5-3 us for its larger state).
_ISAL_PAYS = 1024


class GzipCodec:
    """Deflate at level 1 with a gzip header; any gzip is read."""

    name = "gzip"
    piece_size = 512 * KIB

    def __init__(self, deflate: Deflate = FASTEST) -> None:
        self._deflate = deflate

    def __repr__(self) -> str:
        return "GzipCodec()"

    def __reduce__(self) -> tuple[Any, ...]:
        return GzipCodec, ()  # with the fastest implementation of the machine it arrives at

    def attributes(self, size: int) -> Attributes:
        return {"cas_raw": False, "cas_version": VERSION, "cas_size": size}

    def header(self) -> bytes:
        return _HEADER

    def piece(self, data: Buffer) -> bytes:
        compressor = self._deflate.compressobj(1, zlib.DEFLATED, _RAW_DEFLATE)
        packed = compressor.compress(data) + compressor.flush(self._deflate.Z_SYNC_FLUSH)
        # Stored blocks bound the growth, and a reader copies them instead of decoding them.
        return packed if len(packed) < _stored_size(len(data)) else _store(data)

    def trailer(self, size: int, crc32: int) -> bytes:
        return _LAST_BLOCK + _CHECKS.pack(crc32, size & 0xFFFFFFFF)

    def compress(self, data: Buffer) -> bytes:
        view = memoryview(data)
        pieces = [self.piece(view[at : at + self.piece_size]) for at in range(0, len(view), self.piece_size)]
        return b"".join((_HEADER, *pieces, self.trailer(len(view), self._deflate.crc32(data))))

    def decompress(self, data: Buffer, *, max_size: int) -> bytes:
        deflate = ZLIB if len(data) < _ISAL_PAYS else self._deflate
        member = deflate.decompressobj(_GZIP)
        try:
            content = member.decompress(data, max_size + 1)
        except deflate.error as error:
            raise _damaged(error) from error
        _check_size(len(content), max_size)
        if not member.eof:
            raise _truncated()
        if not member.unused_data:
            return content
        return self._decompress_rest(content, member.unused_data, max_size)

    def _decompress_rest(self, content: bytes, rest: bytes, max_size: int) -> bytes:
        decoder = _GzipDecoder(self._deflate, after_member=True)
        pieces = [content]
        size = len(content)
        for piece in decoder.decode(rest):
            size += len(piece)
            _check_size(size, max_size)
            pieces.append(piece)
        decoder.finish()
        return b"".join(pieces)

    def decoder(self) -> _GzipDecoder:
        return _GzipDecoder(self._deflate)

    def min_stored_size(self, size: int) -> int:
        return len(_HEADER) + max(len(_LAST_BLOCK), -(-size // _DENSEST)) + _CHECKS.size

    def max_stored_size(self, size: int) -> int:
        whole, last = divmod(size, self.piece_size)
        pieces = whole * _stored_size(self.piece_size) + _stored_size(last)
        return len(_HEADER) + pieces + len(_LAST_BLOCK) + _CHECKS.size


class _GzipDecoder:
    """Reads members one after the other, and passes over zero bytes after them, as ``gzip`` and Metaflow do."""

    def __init__(self, deflate: Deflate, *, after_member: bool = False) -> None:
        self._deflate = deflate
        self._after_member = after_member
        self._start = b""  # of a member whose flags have not come yet
        self._member: Decompressor | None = None

    def decode(self, data: Buffer) -> Iterator[bytes]:
        view = memoryview(data)
        for at in range(0, len(view), _SLICE):
            rest: Buffer = view[at : at + _SLICE]
            while len(rest):
                if self._member is None:
                    rest = self._open_member(rest)
                else:
                    rest = yield from self._read_member(self._member, rest)

    def _open_member(self, rest: Buffer) -> bytes:
        start = self._start + bytes(rest)
        if self._after_member and not self._start:
            start = start.lstrip(b"\x00")
        if self._after_member and start[:1] not in {b"", _HEADER[:1]}:
            raise CodecError("stored bytes go on after the end of the gzip stream")
        if len(start) <= _FLAGS:
            self._start = start
            return b""
        self._start = b""
        # isal 1.9 loses its place in a header with a name or another field that comes in pieces.
        deflate = ZLIB if start[_FLAGS] else self._deflate
        self._member = deflate.decompressobj(_GZIP)
        return start

    def _read_member(self, member: Decompressor, rest: Buffer) -> Generator[bytes, None, bytes]:
        while True:
            try:
                content = member.decompress(rest, _PIECE_OUT)
            except (self._deflate.error, ZLIB.error) as error:
                raise _damaged(error) from error
            if content:
                yield content
            if member.eof:
                self._member, self._after_member = None, True
                return member.unused_data
            rest = member.unconsumed_tail
            # A full piece may leave content behind in the decompressor even when all input is taken.
            if not rest and len(content) < _PIECE_OUT:
                return rest

    def finish(self) -> None:
        if self._member is not None or self._start or not self._after_member:
            raise _truncated()


def _stored_size(size: int) -> int:
    """Return the bytes of a piece of ``size`` bytes in stored blocks; nothing is no piece."""
    return size + _STORED.size * -(-size // _STORED_BYTES) + len(_FLUSH) if size else 0


def _store(data: Buffer) -> bytes:
    view = memoryview(data)
    blocks: list[Buffer] = []
    for at in range(0, len(view), _STORED_BYTES):
        block = view[at : at + _STORED_BYTES]
        blocks += (_STORED.pack(0, len(block), len(block) ^ 0xFFFF), block)
    return b"".join((*blocks, _FLUSH))


def _check_size(size: int, max_size: int) -> None:
    if size > max_size:
        raise TooLargeError(f"gzip stream holds more than the {max_size} bytes that are allowed")


def _damaged(error: Exception) -> CodecError:
    return CodecError(f"stored bytes are not a valid gzip stream: {error}")


def _truncated() -> CodecError:
    return CodecError("gzip stream ends too early")
