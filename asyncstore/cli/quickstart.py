"""asyncstore quickstart"""

from __future__ import annotations

from contextlib import ExitStack
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import click

from asyncstore.cli.output import screen
from asyncstore.cli.storage import DEFAULT_PREFIX, open_url, run_async
from asyncstore.types import MIB

if TYPE_CHECKING:
    from asyncstore.maintain.quickstart import Step


@click.command("quickstart", short_help="Save and load the files of this Python.")
@click.argument("directory", metavar="[DIR]", required=False, type=click.Path(file_okay=False))
def command(directory: str | None) -> None:
    """Save the standard library of this Python, save it again, load it back, and tell how it went.

    The store is made in DIR and stays there; without DIR it is temporary. Needs no network.
    """
    with ExitStack() as stack:
        place = directory or stack.enter_context(TemporaryDirectory(prefix="asyncstore-"))
        root, steps = run_async(lambda: _quickstart(place))
    click.echo(f"The standard library in {root}, on local disk:\n")
    _print_table(steps)
    if directory is None:
        click.echo("\nThe store was temporary and is gone. `asyncstore quickstart DIR` keeps it.")
    else:
        click.echo(f"\nThe store is in {directory}. Try `asyncstore check {directory}`.")


async def _quickstart(directory: str) -> tuple[str, list[Step]]:
    from asyncstore.cas.store import ContentAddressedStore
    from asyncstore.maintain.quickstart import quickstart, sample_tree

    async with open_url(directory) as storage:
        root, files = await storage.runtime.pool.run(sample_tree)
        done: list[Step] = []
        with screen("saving and loading", total=3, unit="step") as out:
            async with quickstart(ContentAddressedStore(DEFAULT_PREFIX, storage), files) as steps:
                async for step in steps:
                    done.append(step)
                    out.advance(1, step.size)
    return root, done


def _print_table(steps: list[Step]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("", no_wrap=True)
    for heading in ("files", "MiB", "new blobs", "MiB written", "ratio", "seconds", "MiB/s"):
        table.add_column(heading, justify="right", no_wrap=True)
    for step in steps:
        table.add_row(
            step.name,
            f"{step.files:,}",
            f"{step.size / MIB:,.1f}",
            f"{step.new:,}",
            f"{step.stored / MIB:,.1f}",
            f"{step.size / step.stored:.1f}" if step.stored else "",
            f"{step.seconds:.2f}",
            f"{step.size / MIB / step.seconds:,.1f}",
        )
    Console().print(table)
