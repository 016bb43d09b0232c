"""A large file goes in and out in bounded memory, measured in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from asyncstore.types import GIB, MIB

# ru_maxrss would not do on Linux: a process inherits it from the one that started it.
MEASURED = """
import resource, sys
from asyncstore.cli.app import run
assert run(sys.argv[1:]) == 0
try:
    with open("/proc/self/status") as status:
        peak = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
except FileNotFoundError:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(peak, file=sys.stderr)
"""


def peak(*words: str | os.PathLike[str]) -> tuple[int, str]:
    """Run a command and return the most memory it had, in bytes, and what it printed."""
    environ = {**os.environ, "ASYNCSTORE_DURABILITY": "fast"}
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, *words], env=environ, capture_output=True, text=True, check=True
    )
    return int(done.stderr.split()[-1]), done.stdout


def write_large(path: Path, size: int, kind: str) -> None:
    # What repeats after 1 MiB is beyond the window of gzip, so random bytes stay incompressible.
    random = Random(1)
    block = {"random": random.randbytes(MIB), "digits": random.randbytes(MIB // 2).hex().encode(), "zeros": bytes(MIB)}[
        kind
    ]
    with path.open("wb") as file:
        for number in range(size // MIB):
            file.write(number.to_bytes(8, "big") + block[8:])


@pytest.mark.parametrize("kind", ["random", "digits", "zeros"])
@pytest.mark.parametrize(
    ("size", "bound"),
    [(256 * MIB, 96 * MIB), pytest.param(GIB, 128 * MIB, marks=pytest.mark.slow)],
    ids=["256 MiB", "1 GiB"],
)
def test_putting_getting_and_checking_a_large_file_takes_little_memory(
    tmp_path: Path, kind: str, size: int, bound: int
) -> None:
    write_large(tmp_path / "large", size, kind)
    store, output = tmp_path / "store", tmp_path / "output"
    baseline, _ = peak("ls", store)
    put, printed = peak("put", tmp_path / "large", "--to", store)
    key = printed.split()[0]
    get, _ = peak("get", key, "--from", store, "--output", output)
    check, _ = peak("check", store)
    assert subprocess.run(["cmp", tmp_path / "large", output / key]).returncode == 0
    above = {"put": put - baseline, "get": get - baseline, "check": check - baseline}
    assert max(above.values()) <= bound, {name: f"{value / MIB:.0f} MiB" for name, value in above.items()}
