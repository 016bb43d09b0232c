"""asyncstore ls"""

from __future__ import annotations

import click

from asyncstore.cli.failures import printable
from asyncstore.cli.output import PlainScreen, note
from asyncstore.cli.storage import open_url, run_async
from asyncstore.types import ListEntry


@click.command(
    "ls",
    short_help="List objects.",
    epilog="""
    \b
    Examples:
      asyncstore ls /srv/store
      asyncstore ls s3://bucket/store files/data --recursive
    """,
)
@click.argument("url", metavar="URL")
@click.argument("path", default="")
@click.option("--recursive", "-r", is_flag=True, help="List the objects of the whole tree, in no order.")
def command(url: str, path: str, recursive: bool) -> None:
    """List the objects and directories at PATH of a store.

    Prints the size in bytes, the time of the last change (UTC), and the path.
    """
    run_async(lambda: _ls(url, path, recursive))


async def _ls(url: str, path: str, recursive: bool) -> None:
    from asyncstore.maintain.objects import list_objects

    out = PlainScreen()
    count = 0
    async with open_url(url) as storage, list_objects(storage, path, recursive=recursive) as entries:
        async for entry in entries:
            count += 1
            out.line(_line(entry))
    if not count:
        note(f"There is nothing in {storage.root}.")


def _line(entry: ListEntry) -> str:
    size = "" if entry.size is None else str(entry.size)
    modified = "" if entry.modified is None else f"{entry.modified:%Y-%m-%d %H:%M:%S}"
    return f"{size:>14}  {modified:<19}  {printable(entry.path)}{'/' * (entry.kind == 'directory')}"
