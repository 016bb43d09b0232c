"""Contents and streams that the codec tests share."""

from __future__ import annotations

import gzip
import random
import struct
import zlib

import lz4.frame

from asyncstore.codec.base import Codec
from asyncstore.codec.deflate import ZLIB
from asyncstore.codec.gzip import GzipCodec
from asyncstore.codec.lz4 import Lz4Codec
from asyncstore.codec.raw import RawCodec

CODECS: dict[str, Codec] = {
    "gzip": GzipCodec(),
    "gzip without isal": GzipCodec(ZLIB),
    "lz4": Lz4Codec(),
    "raw": RawCodec(),
}
COMPRESSING = [name for name in CODECS if name != "raw"]


def text(size: int) -> bytes:
    return (b"the quick brown fox %d; " * (size // 20 + 1))[:size]


def noise(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def mixture(size: int) -> bytes:
    half = size // 2
    return noise(half) + text(size - half)


def stream(codec: Codec, content: bytes) -> bytes:
    """Make a stream from pieces, as a pipeline does."""
    size = codec.piece_size
    pieces = [codec.piece(memoryview(content)[at : at + size]) for at in range(0, len(content), size)]
    return b"".join((codec.header(), *pieces, codec.trailer(len(content), zlib.crc32(content))))


def decoded(codec: Codec, stored: bytes, *, step: int | None = None) -> bytes:
    """Decode a stream that comes in ``step`` bytes at a time."""
    step = step or max(1, len(stored))
    decoder = codec.decoder()
    pieces = [bytes(piece) for at in range(0, len(stored), step) for piece in decoder.decode(stored[at : at + step])]
    decoder.finish()
    return b"".join(pieces)


def gzip_with_every_field(content: bytes) -> bytes:
    """Make a gzip member whose header has text flag, header check, extra field, name and comment."""
    header = b"\x1f\x8b\x08\x1f" + struct.pack("<IBB", 1_700_000_000, 2, 3)
    header += struct.pack("<H", 6) + b"AB\x02\x00xy" + b"name.bin\x00" + b"a comment\x00"
    header += struct.pack("<H", zlib.crc32(header) & 0xFFFF)
    body = zlib.compress(content, 9, wbits=-15)
    return header + body + struct.pack("<II", zlib.crc32(content), len(content))


def foreign_streams(codec: Codec, content: bytes) -> dict[str, bytes]:
    """Make the same content as other writers would store it."""
    if codec.name == "gzip":
        half = len(content) // 2
        return {
            "level 3": gzip.compress(content, 3),
            "level 9": gzip.compress(content, 9),
            "level 0": gzip.compress(content, 0),
            "header fields": gzip_with_every_field(content),
            "members": gzip.compress(content[:half]) + gzip.compress(b"") + gzip.compress(content[half:]),
            "padding": gzip.compress(content) + bytes(1000),
        }
    return {
        "default": lz4.frame.compress(content),
        "linked, checksums": lz4.frame.compress(content, content_checksum=True, block_checksum=True),
        "4 MiB blocks": lz4.frame.compress(content, block_size=lz4.frame.BLOCKSIZE_MAX4MB, compression_level=9),
        "no size": lz4.frame.compress(content, store_size=False, block_linked=False),
        "our header": lz4.frame.compress(
            content, store_size=False, block_linked=False, block_size=lz4.frame.BLOCKSIZE_MAX256KB
        ),
    }
