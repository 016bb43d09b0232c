"""What a benchmark found, and the statistics that tables show."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

FORMAT = {"format": "asyncstore-benchmark", "version": 1}


@dataclass(slots=True)
class Series:
    """Repeats of one operation of one rival in one case: seconds of wall and CPU time, bytes of peak memory."""

    case: str
    place: str
    operation: str
    rival: str
    bytes: int
    stored: int
    wall: list[float] = field(default_factory=list[float])
    cpu: list[float] = field(default_factory=list[float])
    peak: list[int | None] = field(default_factory=list["int | None"])

    def add(self, sample: dict[str, Any]) -> None:
        self.wall.append(sample["wall"])
        self.cpu.append(sample["cpu"])
        self.peak.append(sample["peak"])


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many times less one rival took than another in the same repeat: median and range of the repeats."""

    median: float
    least: float
    most: float

    def __str__(self) -> str:
        digits = 0 if self.median >= 20 else 1
        return f"{self.median:.{digits}f}x [{self.least:.{digits}f}-{self.most:.{digits}f}]"


def ratio(baseline: list[float], measured: list[float]) -> Ratio:
    """Compare repeats pair by pair, since a busy moment slows down both of a pair."""
    paired = [slow / fast for slow, fast in zip(baseline, measured, strict=True)]
    return Ratio(median(paired), min(paired), max(paired))


@dataclass(slots=True)
class Result:
    """One run of a benchmark."""

    benchmark: str
    baseline: str
    repeats: int
    machine: dict[str, Any]
    places: dict[str, str]
    rivals: dict[str, dict[str, Any]]
    series: list[Series] = field(default_factory=list[Series])

    def find(self, case: str, place: str, operation: str, rival: str) -> Series:
        """Return one series."""
        wanted = (case, place, operation, rival)
        return next(one for one in self.series if (one.case, one.place, one.operation, one.rival) == wanted)

    def rows(self) -> list[tuple[str, str]]:
        """Return case and place of each row, in the order measured."""
        return list(dict.fromkeys((one.case, one.place) for one in self.series))

    def compared(self) -> list[str]:
        """Return the rivals other than the baseline."""
        return [name for name in self.rivals if name != self.baseline]

    def wall_ratio(self, case: str, place: str, operation: str, rival: str) -> Ratio:
        """Return how many times faster than the baseline a rival was."""
        slow = self.find(case, place, operation, self.baseline)
        return ratio(slow.wall, self.find(case, place, operation, rival).wall)

    def cpu_ratio(self, case: str, place: str, operation: str, rival: str) -> Ratio:
        """Return how many times less CPU time than the baseline a rival took."""
        slow = self.find(case, place, operation, self.baseline)
        return ratio(slow.cpu, self.find(case, place, operation, rival).cpu)

    def write(self, path: Path) -> None:
        """Write the result as JSON, with the ratios that follow from it."""
        ratios = [
            {
                "case": case,
                "place": place,
                "operation": operation,
                "rival": rival,
                "wall": asdict(self.wall_ratio(case, place, operation, rival)),
                "cpu": asdict(self.cpu_ratio(case, place, operation, rival)),
            }
            for case, place in self.rows()
            for operation in ("save", "load")
            for rival in self.compared()
        ]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({**FORMAT, **asdict(self), "ratios": ratios}, indent=1) + "\n")
