"""asyncstore check"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from asyncstore.cli.failures import DAMAGE, UNFINISHED, printable
from asyncstore.cli.output import Stopwatch, count_text, note, screen, size_text
from asyncstore.cli.storage import open_url, run_async

if TYPE_CHECKING:
    from asyncstore.maintain.attempts import AttemptTotals
    from asyncstore.maintain.check import BlobDirectory
    from asyncstore.storage.base import DataStoreStorage


@click.command(
    "check",
    short_help="Verify every blob.",
    epilog="""
    \b
    Examples:
      asyncstore check ~/project/.metaflow
      asyncstore check s3://bucket/metaflow
    """,
)
@click.argument("url", metavar="[URL]", required=False)
def command(url: str | None) -> int:
    """Read every blob of every flow below a URL and compare its content with its key.

    Looks for the blobs of every finished attempt, too, and on local disk for its registration beside it.

    Without URL, this is the datastore that Metaflow would use in the current directory.

    Prints a line for each blob that is damaged or unreadable, with path, key and cause, for each attempt that is
    incomplete or not registered, and then the totals. Ends with 0 if all is well, 1 if one of these was found, and 3
    if the storage gave no answer for something, or if there is no blob at all.
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
        with screen("looking for blobs", unit="blob"):
            directories = await find_blob_directories(storage)
        with screen("checking", total=sum(each.blobs for each in directories), unit="blob") as out:
            async with check_blobs(storage, directories) as blobs:
                async for blob in blobs:
                    totals.add(blob)
                    out.advance(1, blob.size or 0)
                    if blob.error is not None:
                        kind = "damaged" if blob.damaged else "unreadable"
                        out.line(f"{kind}  {printable(blob.path)}  {blob.key}  {printable(blob.cause)}")
        attempts = await _check_attempts(storage, directories)
    click.echo(
        f"{count_text(totals.blobs, 'blob')} in {count_text(len(directories), 'store')}, "
        f"{size_text(totals.size)} verified: {totals.damaged:,} damaged, "
        f"{totals.unreadable + totals.unanswered:,} unreadable"
    )
    if attempts.done:
        click.echo(
            f"{count_text(attempts.done, 'finished attempt')}: {attempts.incomplete:,} incomplete, "
            f"{attempts.unregistered:,} not registered"
        )
    note(f"in {watch.seconds:.1f} s")
    if totals.damaged:
        note("`asyncstore put --verify-existing` of the same content, to the same prefix, heals a damaged blob.")
    if totals.damaged or totals.unreadable or attempts.incomplete or attempts.unregistered:
        return DAMAGE
    return UNFINISHED if totals.unanswered or attempts.unanswered else 0


async def _check_attempts(storage: DataStoreStorage, directories: list[BlobDirectory]) -> AttemptTotals:
    from asyncstore.datastore.flow import FlowDataStore
    from asyncstore.layout import flow_of_blob_prefix
    from asyncstore.maintain.attempts import AttemptTotals, check_attempts, local_metadata

    totals = AttemptTotals()
    flows = [flow for each in directories if (flow := flow_of_blob_prefix(each.prefix)) is not None]
    with screen("checking attempts", unit="attempt") as out:
        for flow in flows:
            metadata = await local_metadata(storage, flow)
            async with check_attempts(FlowDataStore(flow, storage), metadata=metadata) as checked:
                async for one in checked:
                    totals.add(one)
                    out.advance(1, 0)
                    if one.cause is not None:
                        kind = "incomplete" if one.incomplete else "attempt"
                        out.line(f"{kind}  {printable(one.pathspec)} attempt {one.attempt}  {printable(one.cause)}")
    return totals
