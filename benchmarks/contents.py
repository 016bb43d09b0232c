"""What the benchmarks save: pickles from a seeded generator, the same for all rivals."""

from __future__ import annotations

import pickle
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from random import Random

from asyncstore.types import KIB, MIB


@dataclass(frozen=True, slots=True)
class Case:
    """``count`` artifacts of about ``size`` bytes each."""

    name: str
    count: int
    size: int
    kind: str

    def write(self, directory: Path) -> int:
        """Write the pickles into files, in the order of their names; return their bytes."""
        directory.mkdir(parents=True)
        total = 0
        for number, blob in enumerate(self._blobs()):
            total += directory.joinpath(f"{number:06}").write_bytes(blob)
        return total

    def _blobs(self) -> Iterator[bytes]:
        random = Random(f"{self.kind} {self.count} {self.size}")
        for _ in range(self.count):
            yield pickle.dumps(_KINDS[self.kind](random, self.size), protocol=4)


def _doubles(random: Random, size: int) -> object:
    """Doubles of full precision: zlib saves 5 % of them, LZ4 nothing."""
    return array("d", (random.random() for _ in range(size // 8)))


def _records(random: Random, size: int) -> object:
    """Rows as programs keep them: zlib saves three quarters."""
    rows = count()
    return [
        {"id": next(rows), "name": f"row {random.randrange(1000)}", "score": round(random.random(), 3)}
        for _ in range(size // 32)
    ]


_KINDS: dict[str, Callable[[Random, int], object]] = {"doubles": _doubles, "records": _records}

SMALL = Case("1000 x 1 KiB", 1000, KIB, "records")
MEDIUM = Case("100 x 1 MiB", 100, MIB, "doubles")
RECORDS = Case("100 x 1 MiB records", 100, MIB, "records")
LARGE = Case("1 x 256 MiB", 1, 256 * MIB, "doubles")
