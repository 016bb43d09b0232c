"""Measures rivals in turn, A B A B …, so that what disturbs the machine disturbs them all alike."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks.contents import Case
from benchmarks.machine import describe
from benchmarks.places import DirectoryPlace, Place
from benchmarks.process import Rival, RivalFailedError, RivalProcess
from benchmarks.result import Result, Series


def run_stores(
    benchmark: str, rivals: Sequence[Rival], cases: Sequence[Case], places: Mapping[str, Path | Place], *, repeats: int
) -> Result:
    """Measure how rivals save and load the same blobs at each place; the first rival is the baseline.

    Every repeat saves into an empty root and loads from it. The keys of each save and the content of each load are
    checked. One repeat more comes first and is not counted: it warms up, and every rival that Metaflow must be able to
    read is read by the baseline.
    """
    where = {name: DirectoryPlace(place) if isinstance(place, Path) else place for name, place in places.items()}
    with ExitStack() as stack:
        processes = [stack.enter_context(RivalProcess(rival)) for rival in rivals]
        started = {one.rival.name: one.ask("start", options=one.rival.options) for one in processes}
        result = Result(
            benchmark=benchmark,
            baseline=rivals[0].name,
            repeats=repeats,
            machine=describe(),
            places={name: place.describe() for name, place in where.items()},
            rivals={
                rival.name: {"options": rival.options, "versions": started[rival.name]["versions"]} for rival in rivals
            },
        )
        for case in cases:
            contents = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=_memory_disk())))
            total = case.write(contents / "blobs")
            expected = [hashlib.sha1(file.read_bytes()).hexdigest() for file in sorted((contents / "blobs").iterdir())]
            for one in processes:
                one.ask("read", directory=str(contents / "blobs"))
            for name, found in where.items():
                print(f"{case.name} on {name} ({result.places[name]})", flush=True)
                _measure(result, case, name, found, processes, expected, total)
            shutil.rmtree(contents / "blobs")
    return result


def _measure(
    result: Result,
    case: Case,
    place: str,
    found: Place,
    processes: Sequence[RivalProcess],
    expected: list[str],
    total: int,
) -> None:
    names = [one.rival.name for one in processes]
    series = {
        (name, operation): Series(case.name, place, operation, name, total, 0)
        for operation in ("save", "load")
        for name in names
    }
    for repeat in range(result.repeats + 1):
        # Whoever goes first finds other caches than who comes later: everyone is first in turn.
        turn = repeat % len(processes)
        for one in (*processes[turn:], *processes[:turn]):
            with found.root() as root:
                saved = one.ask("save", root=root)
                if saved["keys"] != expected:
                    raise RivalFailedError(f"{one.rival.name} saved {case.name} under wrong keys")
                loaded = one.ask("load", root=root, keys=expected)
                if not loaded["equal"]:
                    raise RivalFailedError(f"{one.rival.name} loaded other bytes than it saved of {case.name}")
                stored = found.stored_bytes(root)
                if repeat == 0:
                    _read_by_baseline(processes[0], one, root, expected)
            if repeat > 0:
                series[one.rival.name, "save"].add(saved)
                series[one.rival.name, "load"].add(loaded)
                series[one.rival.name, "save"].stored = series[one.rival.name, "load"].stored = stored
    result.series += series.values()


def _read_by_baseline(baseline: RivalProcess, one: RivalProcess, root: str, keys: list[str]) -> None:
    if one.rival.options.get("codec") == "gzip" and not baseline.ask("load", root=root, keys=keys)["equal"]:
        raise RivalFailedError(f"{baseline.rival.name} loaded other bytes than {one.rival.name} saved")


def _memory_disk() -> str | None:
    return "/dev/shm" if os.path.isdir("/dev/shm") else None
