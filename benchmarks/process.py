"""A rival in a process of its own, which waits for commands."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks.machine import ROOT

WORKER = Path(__file__).parent / "rivals" / "worker.py"


@dataclass(frozen=True, slots=True)
class Rival:
    """A named configuration of a module in `benchmarks.rivals`, run by a Python that has what it needs."""

    name: str
    module: str
    python: Path
    options: dict[str, Any] = field(default_factory=dict[str, Any])
    environ: dict[str, str] = field(default_factory=dict[str, str])


class RivalFailedError(Exception):
    """A rival raised, or answered wrongly; the numbers of the run are worth nothing."""


class RivalProcess:
    """The worker process of one rival, inside its ``with``."""

    def __init__(self, rival: Rival) -> None:
        self.rival = rival
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        # What the developer has set up for real stores must not reach a benchmark.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(_CONFIGURATION)}
        self._process = subprocess.Popen(
            [self.rival.python, WORKER, self.rival.module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**inherited, **self.rival.environ},
            cwd=ROOT,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        with self._process as process:
            if error is not None:
                process.kill()

    def ask(self, command: str, **arguments: Any) -> dict[str, Any]:
        """Have a command done and return its answer."""
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"do": command, **arguments}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise RivalFailedError(f"{self.rival.name}: the process ended during {command!r}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise RivalFailedError(f"{self.rival.name}: {command!r} failed\n{answer['error']}")
        return answer


_CONFIGURATION = ("METAFLOW_", "ASYNCSTORE_", "AWS_", "AZURE_", "GOOGLE_", "PYTHONPATH")
