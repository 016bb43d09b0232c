"""asyncstore get"""

from __future__ import annotations

from collections.abc import Sequence

import click

from asyncstore.cli.failures import DAMAGE, printable
from asyncstore.cli.output import Stopwatch, count_text, note, screen, size_text
from asyncstore.cli.storage import DEFAULT_PREFIX, open_url, run_async
from asyncstore.errors import AsyncStoreError, BlobNotFoundError
from asyncstore.types import Key


@click.command(
    "get",
    short_help="Restore files by key, or a tree by its manifest.",
    epilog="""
    \b
    Examples:
      asyncstore get da39a3ee5e6b4b0d3255bfef95601890afd80709 --from /srv/store
      asyncstore get --manifest results.jsonl --from s3://bucket/store --output restored
    """,
)
@click.argument("keys", metavar="[KEY]...", nargs=-1)
@click.option("--from", "url", metavar="URL", required=True, help="The store.")
@click.option("--prefix", help=f"Where in the store the blobs are.  [default: the manifest's, or {DEFAULT_PREFIX}]")
@click.option("--output", metavar="DIR", type=click.Path(file_okay=False), help="Where to put the files.  [default: .]")
@click.option(
    "--manifest",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, allow_dash=True),
    help="What `put --json` printed; - is the standard input.",
)
def command(keys: tuple[str, ...], url: str, prefix: str | None, output: str | None, manifest: str | None) -> int:
    """Restore files by their keys, or whole trees by the manifest that `put --json` printed.

    A file appears under its name (its key, without a manifest) when all of it is there and has been verified. What
    has that name already is replaced.

    Prints a line for each file whose blob is damaged or missing, with its name, its key and the cause; all others are
    restored, and the exit code is 1.
    """
    if bool(keys) == bool(manifest):
        raise click.UsageError("give keys, or --manifest FILE, and not both")
    if manifest is None:
        lost = run_async(lambda: _get_keys(keys, url, prefix or DEFAULT_PREFIX, output or "."))
    elif output is None:
        raise click.UsageError("--manifest restores a tree of names: say where with --output DIR")
    else:
        lost = run_async(lambda: _get_manifest(manifest, url, prefix, output))
    if lost:
        click.echo(f"asyncstore: {count_text(lost, 'file')} could not be restored", err=True)
    return DAMAGE if lost else 0


async def _get_keys(keys: Sequence[str], url: str, prefix: str, output: str) -> int:
    from asyncstore.cas.store import ContentAddressedStore
    from asyncstore.maintain.restore import fetch
    from asyncstore.types import parse_key

    wanted = [parse_key(key) for key in keys]
    lost = 0
    async with open_url(url) as storage:
        store = ContentAddressedStore(prefix, storage)
        with screen("restoring", total=len(wanted)) as out:
            async with fetch(store, wanted, output) as restored:
                async for one in restored:
                    if one.error is not None:
                        lost += 1
                        out.line(_lost_line(one.item, one.item, one.error))
                    out.advance(1, one.size)
    return lost


async def _get_manifest(manifest: str, url: str, prefix: str | None, output: str) -> int:
    from asyncstore.cas.store import ContentAddressedStore
    from asyncstore.maintain.manifest import FileEntry, ManifestReader
    from asyncstore.maintain.restore import restore

    watch = Stopwatch()
    files = size = lost = 0
    # Bytes that are no UTF-8 go on to the reader, which names the line.
    with click.open_file(manifest, encoding="utf-8", errors="surrogateescape") as lines:
        reader = ManifestReader(lines, manifest)
        async with open_url(url) as storage:
            store = ContentAddressedStore(reader.prefix if prefix is None else prefix, storage)
            with screen("restoring") as out:
                async with restore(store, reader.entries(), output) as restored:
                    async for one in restored:
                        if not isinstance(one.item, FileEntry):
                            continue
                        if one.error is None:
                            files += 1
                            size += one.size
                        else:
                            lost += 1
                            out.line(_lost_line(one.item.name, one.item.key, one.error))
                        out.advance(1, one.size)
    note(f"{count_text(files, 'file')}, {size_text(size)}, restored in {watch.seconds:.1f} s")
    return lost


def _lost_line(name: str, key: Key, error: AsyncStoreError) -> str:
    from asyncstore.maintain.check import cause_of

    kind = "missing" if isinstance(error, BlobNotFoundError) else "damaged"
    return f"{kind}  {printable(name)}  {key}  {printable(cause_of(error))}"
