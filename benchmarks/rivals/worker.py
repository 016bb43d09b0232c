"""Serve one rival over standard input and output; run as a script in the rival's own environment.

    worker.py MODULE      MODULE, beside this file, has a class Rival(**options) with
                          save(root, blobs) -> keys and load(root, keys) -> blobs

Each line of input is a command in JSON, each line of output its answer. Interpreter start and imports are not
measured; the blobs are in memory before a clock starts and are compared after it stopped.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import resource
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Worker:
    def __init__(self, module: str) -> None:
        self._module = importlib.import_module(module)
        self._rival: Any = None
        self._blobs: list[bytes] = []

    def start(self, options: dict[str, Any]) -> dict[str, Any]:
        """Make the rival; answer with the versions of what it is made of."""
        self._rival = self._module.Rival(**options)
        return {"versions": {"python": sys.version.split()[0], **self._module.versions()}}

    def read(self, directory: str) -> dict[str, Any]:
        """Read the blobs of a case, sorted by name."""
        self._blobs = [file.read_bytes() for file in sorted(Path(directory).iterdir())]
        return {"count": len(self._blobs)}

    def save(self, root: str) -> dict[str, Any]:
        keys, cost = _measured(lambda: self._rival.save(root, self._blobs))
        return {"keys": keys, **cost}

    def load(self, root: str, keys: list[str]) -> dict[str, Any]:
        loaded, cost = _measured(lambda: self._rival.load(root, keys))
        return {"equal": loaded == self._blobs, **cost}


def _measured(call: Callable[[], Any]) -> tuple[Any, dict[str, Any]]:
    """Call, and return what it cost: seconds of wall and CPU time, and bytes of memory above what was held before."""
    gc.collect()
    before = _reset_peak()
    cpu = _cpu_seconds()
    began = time.perf_counter()
    result = call()
    wall = time.perf_counter() - began
    cpu = _cpu_seconds() - cpu
    peak = _memory("VmHWM")
    return result, {"wall": wall, "cpu": cpu, "peak": None if before is None or peak is None else peak - before}


def _cpu_seconds() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _reset_peak() -> int | None:
    """Make the kernel forget this process's peak of memory; return what it holds now. None where that is not Linux."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return None
    return _memory("VmRSS")


def _memory(name: str) -> int | None:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def main(module: str) -> None:
    # Whatever a rival prints goes to standard error; the answers have the real standard output for themselves.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    worker = Worker(module)
    for line in sys.stdin:
        command: dict[str, Any] = json.loads(line)
        try:
            answer = getattr(worker, command.pop("do"))(**command)
        except Exception:  # noqa: BLE001  # the runner raises it again
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
