"""asyncstore put"""

from __future__ import annotations

import click

from asyncstore.cli.failures import printable
from asyncstore.cli.output import Stopwatch, count_text, note, screen, size_text
from asyncstore.cli.storage import DEFAULT_PREFIX, open_url, run_async


@click.command(
    "put",
    short_help="Save files and whole directories.",
    epilog="""
    \b
    Examples:
      asyncstore put model.bin --to /srv/store
      asyncstore put results/ --to s3://bucket/store --json > results.jsonl
    """,
)
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=click.Path(exists=True))
@click.option("--to", "url", metavar="URL", required=True, help="The store; a directory is made if it is missing.")
@click.option("--prefix", default=DEFAULT_PREFIX, show_default=True, help="Where in the store the blobs are.")
@click.option("--codec", type=click.Choice(["gzip", "lz4"]), help="How to pack; Metaflow reads gzip.  [default: gzip]")
@click.option("--raw", is_flag=True, help="Do not pack.")
@click.option("--verify-existing", is_flag=True, help="Read back what is there already, and heal what is damaged.")
@click.option("--json", "as_json", is_flag=True, help="Print the manifest that `get --manifest` restores from.")
def command(
    paths: tuple[str, ...],
    url: str,
    prefix: str,
    codec: str | None,
    raw: bool,
    verify_existing: bool,
    as_json: bool,
) -> None:
    """Save files and whole directories by their content.

    Prints the key of each file, and its name. A manifest also keeps the permissions of files, symbolic links and
    empty directories; not owners, times, or the permissions of directories.

    Sockets, pipes and devices are left out, and the store itself, where it lies among the files; each is told.
    """
    if raw and codec:
        raise click.UsageError("--raw does not pack, so --codec has nothing to say: leave one of them out")
    how = {"raw": raw, "verify_existing": verify_existing}
    run_async(lambda: _put(paths, url, prefix, codec or "gzip", how, as_json))


async def _put(paths: tuple[str, ...], url: str, prefix: str, codec: str, how: dict[str, bool], as_json: bool) -> None:
    from asyncstore.cas.store import ContentAddressedStore
    from asyncstore.maintain.manifest import FileEntry, end_line, entry_line, header_line
    from asyncstore.maintain.save import save_paths
    from asyncstore.maintain.walk import LeftOut

    watch = Stopwatch()
    entries = files = size = new = stored = 0
    async with open_url(url) as storage:
        store = ContentAddressedStore(prefix, storage, codec=codec)
        with screen("saving") as out:
            if as_json:
                out.line(header_line(prefix))
            async with save_paths(store, paths, **how) as saved:
                async for item in saved:
                    if isinstance(item, LeftOut):
                        click.echo(f"asyncstore: {printable(item.path)}: {item.reason}; left out", err=True)
                        continue
                    entries += 1
                    entry, blob = item.entry, item.blob
                    if isinstance(entry, FileEntry) and blob is not None:
                        files += 1
                        size += blob.size
                        new += not blob.existed
                        stored += 0 if blob.existed else blob.stored_size or 0
                        out.advance(1, blob.size)
                    if as_json:
                        more = {} if blob is None else {"existed": blob.existed, "stored_size": blob.stored_size}
                        out.line(entry_line(entry, **more))
                    elif isinstance(entry, FileEntry):
                        out.line(f"{entry.key}  {printable(entry.name)}")
            if as_json:
                out.line(end_line(entries))
    note(
        f"{count_text(files, 'file')}, {size_text(size)}: {count_text(new, 'new blob')}, "
        f"{size_text(stored)} written, in {watch.seconds:.1f} s"
    )
