"""Content of every size and kind that the store treats in its own way."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from random import Random

from asyncstore.types import MIB, Buffer, Key


def key_of(content: Buffer) -> Key:
    return Key(hashlib.sha1(content).hexdigest())


def compressible(size: int, seed: int = 0) -> bytes:
    words = [Random(seed).randbytes(8) for _ in range(64)]
    random = Random(seed + 1)
    return b"".join(random.choice(words) for _ in range(min(size, 65536) // 8 + 1))[: min(size, 65536)].ljust(
        min(size, 65536), b"."
    ) * (size // 65536 or 1) + b"." * (size % 65536 if size > 65536 else 0)


def random_bytes(size: int, seed: int = 0) -> bytes:
    return Random(seed).randbytes(size)


SIZES = [0, 1, 95, 96, 1000, 256 * 1024, 256 * 1024 + 1, 4 * MIB, 4 * MIB + 1, 9 * MIB]


class Chunks:
    """A source that gives chunks of odd sizes, and what ``again`` makes of them from the second walk on."""

    def __init__(self, content: bytes, *, again: Callable[[bytes], bytes] = lambda content: content) -> None:
        self.content = content
        self.again = again
        self.walks = 0

    def chunks(self) -> Iterator[Buffer]:
        content = self.content if self.walks == 0 else self.again(self.content)
        self.walks += 1
        buffer = bytearray(100_003)  # one buffer filled again and again, as readers do
        for start in range(0, len(content), len(buffer)):
            piece = content[start : start + len(buffer)]
            buffer[: len(piece)] = piece
            yield memoryview(buffer)[: len(piece)]
