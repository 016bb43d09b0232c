"""Prints a result: a table for the terminal, and one in Markdown for the README."""

from __future__ import annotations

from statistics import median

from rich.console import Console
from rich.table import Table

from asyncstore.types import MIB
from benchmarks.result import Result, Series


def print_table(result: Result, console: Console) -> None:
    """Print every measured number."""
    table = Table(title=f"{result.benchmark}: median of {result.repeats}, ratios to {result.baseline} pair by pair")
    for heading in ("case", "place", "operation", "rival"):
        table.add_column(heading)
    for heading in ("wall ms", "CPU ms", "MB/s", "peak MiB", "stored", "wall ratio", "CPU ratio"):
        table.add_column(heading, justify="right")
    for one in result.series:
        table.add_row(one.case, one.place, one.operation, one.rival, *_numbers(one), *_ratios(result, one))
    console.print(table)
    console.print(_conditions(result), soft_wrap=True, markup=False)


def markdown(result: Result) -> str:
    """Return the ratios of wall time as a Markdown table."""
    pairs = [(rival, operation) for rival in result.compared() for operation in ("save", "load")]
    lines = [
        "| | " + " | ".join(f"{rival}, {operation}" for rival, operation in pairs) + " |",
        "|---" * (len(pairs) + 1) + "|",
    ]
    for case, place in result.rows():
        ratios = [str(result.wall_ratio(case, place, operation, rival)) for rival, operation in pairs]
        lines.append(f"| {case}, {place} | " + " | ".join(ratios) + " |")
    return "\n".join([*lines, "", _conditions(result)])


def _numbers(one: Series) -> list[str]:
    wall = median(one.wall)
    peaks = [peak for peak in one.peak if peak is not None]
    return [
        f"{wall * 1000:.1f}",
        f"{median(one.cpu) * 1000:.1f}",
        f"{one.bytes / wall / 1e6:.0f}",
        f"{median(peaks) / MIB:.1f}" if peaks else "",
        f"{one.stored / one.bytes:.0%}",
    ]


def _ratios(result: Result, one: Series) -> list[str]:
    if one.rival == result.baseline:
        return ["", ""]
    place = (one.case, one.place, one.operation, one.rival)
    return [str(result.wall_ratio(*place)), str(result.cpu_ratio(*place))]


def _conditions(result: Result) -> str:
    machine = result.machine
    versions = {name: version for rival in result.rivals.values() for name, version in rival["versions"].items()}
    durability = sorted({one["options"].get("durability", "") for one in result.rivals.values()} - {""})
    synced = f"durability {', '.join(durability)} ({result.baseline} never syncs); " if durability else ""
    return (
        f"Time of {result.baseline} over time of the others, median [range] of {result.repeats} interleaved repeats. "
        f"{machine['cpus']} CPUs ({machine['processor']}), {machine['memory']}, {machine['system']}; "
        f"places: {', '.join(f'{name} is {kind}' for name, kind in result.places.items())}; "
        f"warm page cache; {synced}"
        f"{', '.join(f'{name} {version}' for name, version in sorted(versions.items()))}; "
        f"commit {machine['commit'][:12]}{' with changes' if machine['changed'] else ''}; "
        f"load {machine['load']} at the start."
    )
