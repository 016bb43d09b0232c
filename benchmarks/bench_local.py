"""How fast are saves and loads on local disk, against Metaflow's own datastore?

    python -m benchmarks.bench_local [--quick] [--only CASE] [--repeats N] [--disk DIR] [--durability D]
        [--output FILE] [--markdown]

Metaflow comes from PyPI, in an environment of its own that the tests' installer makes. Nothing else should run on the
machine; the load at the start is kept with the result.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from benchmarks.contents import LARGE, MEDIUM, RECORDS, SMALL, Case
from benchmarks.machine import ROOT
from benchmarks.process import Rival
from benchmarks.report import markdown, print_table
from benchmarks.runner import run_stores
from tests.environments import ensure

CASES = [SMALL, MEDIUM, RECORDS, LARGE]
QUICK = [
    dataclasses.replace(SMALL, name="100 x 1 KiB", count=100),
    dataclasses.replace(RECORDS, name="2 x 1 MiB records", count=2),
    Case("1 x 10 MiB", 1, 10 << 20, "doubles"),
]


def main() -> None:
    options = _options()
    here = {"PYTHONPATH": str(ROOT)}
    durability = {"durability": options.durability}
    rivals = [
        Rival("Metaflow", "metaflow_cas", ensure("metaflow")),
        *(
            Rival(codec, "asyncstore_cas", Path(sys.executable), {"codec": codec, **durability}, here)
            for codec in ("gzip", "lz4")
        ),
    ]
    with tempfile.TemporaryDirectory(dir=options.disk, prefix="asyncstore-bench-") as disk:
        places = {"disk": Path(disk)}
        if os.path.isdir("/dev/shm"):
            places = {"tmpfs": Path("/dev/shm"), **places}
        cases = [case for case in (QUICK if options.quick else CASES) if options.only in case.name]
        result = run_stores("local", rivals, cases, places, repeats=options.repeats)
    if options.output:
        result.write(options.output)
    print_table(result, Console(width=None if sys.stdout.isatty() else 200))
    if options.markdown:
        print(markdown(result))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.bench_local", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--quick", action="store_true", help="small cases: does the benchmark itself work?")
    parser.add_argument("--only", default="", help="only cases whose name has this text")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--disk", type=Path, help="a directory on the disk to measure (default: the temporary one)")
    parser.add_argument("--durability", choices=["fast", "safe", "paranoid"], default="fast")
    parser.add_argument("--output", type=Path, help="write all samples to this file, as JSON")
    parser.add_argument("--markdown", action="store_true", help="print a table for the README, too")
    return parser.parse_args()


if __name__ == "__main__":
    main()
