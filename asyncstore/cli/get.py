"""asyncstore get"""

from __future__ import annotations

from collections.abc import Sequence

import click

from asyncstore.cli.output import Stopwatch, count_text, note, screen, size_text
from asyncstore.cli.storage import DEFAULT_PREFIX, open_url, run_async


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
def command(keys: tuple[str, ...], url: str, prefix: str | None, output: str | None, manifest: str | None) -> None:
    """Restore files by their keys, or whole trees by the manifest that `put --json` printed.

    A file appears under its name (its key, without a manifest) when all of it is there and has been verified. What
    has that name already is replaced.
    """
    if bool(keys) == bool(manifest):
        raise click.UsageError("give keys, or --manifest FILE, and not both")
    if manifest is None:
        run_async(lambda: _get_keys(keys, url, prefix or DEFAULT_PREFIX, output or "."))
    elif output is None:
        raise click.UsageError("--manifest restores a tree of names: say where with --output DIR")
    else:
        run_async(lambda: _get_manifest(manifest, url, prefix, output))


async def _get_keys(keys: Sequence[str], url: str, prefix: str, output: str) -> None:
    from asyncstore.cas.store import ContentAddressedStore
    from asyncstore.maintain.restore import fetch
    from asyncstore.types import parse_key

    wanted = [parse_key(key) for key in keys]
    async with open_url(url) as storage:
        store = ContentAddressedStore(prefix, storage)
        with screen("restoring", total=len(wanted)) as out:
            async with fetch(store, wanted, output) as restored:
                async for _, size in restored:
                    out.advance(1, size)


async def _get_manifest(manifest: str, url: str, prefix: str | None, output: str) -> None:
    from asyncstore.cas.store import ContentAddressedStore
    from asyncstore.maintain.manifest import FileEntry, ManifestReader
    from asyncstore.maintain.restore import restore

    watch = Stopwatch()
    files = size = 0
    # Bytes that are no UTF-8 go on to the reader, which names the line.
    with click.open_file(manifest, encoding="utf-8", errors="surrogateescape") as lines:
        reader = ManifestReader(lines, manifest)
        async with open_url(url) as storage:
            store = ContentAddressedStore(reader.prefix if prefix is None else prefix, storage)
            with screen("restoring") as out:
                async with restore(store, reader.entries(), output) as restored:
                    async for entry in restored:
                        if isinstance(entry, FileEntry):
                            files += 1
                            size += entry.size
                            out.advance(1, entry.size)
    note(f"{count_text(files, 'file')}, {size_text(size)}, restored in {watch.seconds:.1f} s")
