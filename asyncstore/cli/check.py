"""asyncstore check"""

from __future__ import annotations

import click

from asyncstore.cli.failures import DAMAGE, UNFINISHED, printable
from asyncstore.cli.output import Stopwatch, count_text, note, screen, size_text
from asyncstore.cli.storage import open_url, run_async


@click.command(
    "check",
    short_help="Verify every blob.",
    epilog="""
    \b
    asyncstore check ~/project/.metaflow
    asyncstore check s3://bucket/metaflow
    """,
)
@click.argument("url", metavar="[URL]", required=False)
def command(url: str | None) -> int:
    """Read every blob of every flow below a URL and compare its content with its key.

    Without URL, this is the datastore that Metaflow would use in the current directory.

    Prints a line for each blob that is damaged or unreadable, with path, key and cause, and then the totals. Ends
    with 0 if all is well, 1 if there is damage, and 3 if something could not be checked.
    """
    from asyncstore.config import load_config
    from asyncstore.maintain.root import configured_root

    root = configured_root(load_config()) if url is None else url
    return run_async(lambda: _check(root))


async def _check(url: str) -> int:
    from asyncstore.maintain.check import CheckTotals, check_blobs, find_blob_directories

    watch = Stopwatch()
    totals = CheckTotals()
    async with open_url(url) as storage:
        with screen("looking for blobs", unit="blobs"):
            directories = await find_blob_directories(storage)
        with screen("checking", total=sum(each.blobs for each in directories), unit="blobs") as out:
            async with check_blobs(storage, directories) as blobs:
                async for blob in blobs:
                    totals.add(blob)
                    out.advance(1, blob.size or 0)
                    if blob.error is not None:
                        kind = "damaged" if blob.damaged else "unreadable"
                        out.line(f"{kind}  {printable(blob.path)}  {blob.key}  {printable(blob.cause)}")
    click.echo(
        f"{count_text(totals.blobs, 'blob')} in {count_text(len(directories), 'store')}, "
        f"{size_text(totals.size)} verified: {totals.damaged:,} damaged, "
        f"{totals.unreadable + totals.unanswered:,} unreadable"
    )
    note(f"in {watch.seconds:.1f} s")
    if totals.damaged:
        note("`asyncstore put --verify-existing` of the same content, to the same prefix, heals a damaged blob.")
    if totals.damaged or totals.unreadable:
        return DAMAGE
    return UNFINISHED if totals.unanswered else 0
