"""A first run on real files: save a tree, save it again, load it back."""

from __future__ import annotations

import os
import sysconfig
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from anyio.abc import ObjectSendStream

from asyncstore.cas.store import ContentAddressedStore
from asyncstore.concurrency import feed
from asyncstore.types import Key

_NOT_OURS = ("__pycache__", "site-packages", "dist-packages")


@dataclass(frozen=True, slots=True)
class Step:
    """What one step did: ``size`` in bytes of content, ``stored`` in bytes written, ``new`` blobs, ``seconds``."""

    name: str
    files: int
    size: int
    new: int
    stored: int
    seconds: float


def sample_tree() -> tuple[str, list[Path]]:
    """Return the standard library of this Python and its files: 700 on Debian, thousands with its tests. Blocks.

    Without what was installed into it, and without compiled files, which Python may write at any time.
    """
    root = sysconfig.get_paths()["stdlib"]
    return root, sorted(_files(root))


def _files(root: str) -> Iterator[Path]:
    for directory, children, names in os.walk(root):
        children[:] = [child for child in children if child not in _NOT_OURS]
        paths = (Path(directory, name) for name in names)
        yield from (path for path in paths if path.is_file() and not path.is_symlink())


@asynccontextmanager
async def quickstart(store: ContentAddressedStore, files: Sequence[Path]) -> AsyncGenerator[AsyncIterator[Step]]:
    """Save files, save them again, load them back verified; feed each step when it is done."""

    async def produce(sender: ObjectSendStream[Step]) -> None:
        keys: list[Key] = []
        for name in ("save", "save again"):
            start = time.perf_counter()
            saved = await store.save_blobs(files)
            seconds = time.perf_counter() - start
            new = [blob for blob in saved if not blob.existed]
            stored = sum(blob.stored_size or 0 for blob in new)
            await sender.send(Step(name, len(saved), sum(blob.size for blob in saved), len(new), stored, seconds))
            keys = [blob.key for blob in saved]
        start = time.perf_counter()
        sizes: list[int] = []
        async with store.load_blobs(keys) as blobs:
            async for _, content in blobs:
                sizes.append(len(content))
        await sender.send(Step("load, verified", len(sizes), sum(sizes), 0, 0, time.perf_counter() - start))

    async with feed(produce) as steps:
        yield steps
