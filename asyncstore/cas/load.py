"""Loads and verifies many blobs: small ones in batches of one thread hop, larger ones each alone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from typing import TypeAlias

from asyncstore.cas.context import BATCH_BYTES, BATCH_ITEMS, WHOLE_CONTENT, CasContext
from asyncstore.cas.fetch import TYPICAL_RATIO, Content, expected_bytes, fetch
from asyncstore.cas.pack import unpack_unlabelled, unpack_verified
from asyncstore.concurrency import crew, task_group
from asyncstore.errors import AsyncStoreError, BlobNotFoundError, IntegrityError, TooLargeError
from asyncstore.storage.base import StoredObject, SupportsBareReads, SupportsBatch
from asyncstore.types import Key

Outcome: TypeAlias = Content | AsyncStoreError
Outcomes: TypeAlias = list[tuple[Key, Outcome]]
Deliver: TypeAlias = Callable[[Outcomes], Awaitable[None]]
HandOver: TypeAlias = Callable[[Key], Awaitable[None]]
LoadBatch: TypeAlias = Callable[[list[Key]], Awaitable[list[Key]]]


def note_outcome(context: CasContext, key: Key, outcome: Outcome) -> None:
    """Remember what a load found, so that the next save of the same content skips it or heals it."""
    if isinstance(outcome, Content):
        if outcome.as_stated:
            context.known.add(key, None)
        elif outcome.as_stated is False:
            context.known.forget(key, damaged=True)  # this reader got around it, Metaflow's would not
    elif isinstance(outcome, IntegrityError):
        context.known.forget(key, damaged=True)
    elif isinstance(outcome, BlobNotFoundError):
        context.known.forget(key)


class LoadOperation:
    """Loads many blobs and delivers the outcome of each key, in the order of completion.

    A batch is delivered as one list: a hand-over between tasks costs as much as loading a small blob.
    """

    def __init__(self, context: CasContext, deliver: Deliver, *, keep: bool) -> None:
        self._context = context
        self._deliver = deliver
        self._keep = keep
        self._account = context.runtime.memory.account()

    async def run(self, keys: Iterable[Key]) -> None:
        """Load every occurrence of every key; keys are consumed lazily."""
        remaining = iter(keys)
        load_batch = self._batch_loader()
        try:
            async with crew(self._load_alone, width=self._context.runtime.limits.requests) as hand_over:
                if load_batch is None:
                    for key in remaining:
                        await hand_over(key)
                    return
                async with task_group() as group:
                    for _ in range(self._context.workers):
                        group.start_soon(self._load_batches, load_batch, remaining, hand_over)
        finally:
            self._account.close()

    def _batch_loader(self) -> LoadBatch | None:
        if self._context.cache is not None:
            return None  # a cache is asked key by key
        if self._keep and (bare := self._context.bare) is not None:  # who verifies looks at attributes, too
            return partial(self._load_bodies, bare)
        if (batch := self._context.batch) is not None:
            return partial(self._load_objects, batch)
        return None

    async def _load_batches(self, load_batch: LoadBatch, remaining: Iterator[Key], hand_over: HandOver) -> None:
        while keys := list(islice(remaining, BATCH_ITEMS)):
            try:
                alone = await load_batch(keys)
            except AsyncStoreError:
                alone = keys  # one of them is unreadable; alone, each gets an outcome of its own
            for key in alone:
                await hand_over(key)

    async def _load_bodies(self, bare: SupportsBareReads, keys: list[Key]) -> list[Key]:
        """Load the small blobs of a batch by their bodies; return the keys that are to be loaded alone."""
        async with self._account.reserve(BATCH_BYTES):
            bodies = await bare.read_bodies(self._context.paths(keys), max_bytes=BATCH_BYTES)
        expected = sum(len(body) * (1 + TYPICAL_RATIO) for body in bodies if isinstance(body, bytes))
        async with self._account.reserve(expected):
            outcomes = await self._context.runtime.pool.run(self._unpack_bodies, keys, bodies)
            await self._conclude([(key, content) for key, content in outcomes if content is not None])
        return [key for key, content in outcomes if content is None]

    def _unpack_bodies(self, keys: list[Key], bodies: list[bytes | int | None]) -> list[tuple[Key, Content | None]]:
        room = min(WHOLE_CONTENT, self._context.runtime.limits.max_blob_bytes)
        outcomes: list[tuple[Key, Content | None]] = []
        for key, body in zip(keys, bodies, strict=True):
            content = unpack_unlabelled(key, body, max_size=room) if isinstance(body, bytes) else None
            room -= len(content or b"")
            outcomes.append((key, None if content is None else self._content(content, None)))
        return outcomes

    async def _load_objects(self, batch: SupportsBatch, keys: list[Key]) -> list[Key]:
        """Load the small blobs of a batch; return the keys that are to be loaded alone."""
        paths = self._context.paths(keys)
        async with self._account.reserve(BATCH_BYTES):
            found = await batch.get_batch(paths, max_bytes=BATCH_BYTES)
        items: list[tuple[Key, str, StoredObject]] = []
        alone: list[Key] = []
        for key, path, item in zip(keys, paths, found, strict=True):
            if item is None or item.data is None:
                alone.append(key)
            else:
                items.append((key, path, item))
        async with self._account.reserve(sum(expected_bytes(item.meta) for _, _, item in items)):
            outcomes = await self._context.runtime.pool.run(self._unpack_objects, items)
            await self._conclude([(key, outcome) for key, outcome in outcomes if outcome is not None])
        return alone + [key for key, outcome in outcomes if outcome is None]

    def _unpack_objects(self, items: list[tuple[Key, str, StoredObject]]) -> list[tuple[Key, Outcome | None]]:
        room = min(WHOLE_CONTENT, self._context.runtime.limits.max_blob_bytes)
        outcomes: list[tuple[Key, Outcome | None]] = []
        for key, path, item in items:
            try:
                found = unpack_verified(key, item.data or b"", item.meta.attributes, where=path, max_size=room)
                room -= len(found[0])
                outcomes.append((key, self._content(*found)))
            except TooLargeError:
                outcomes.append((key, None))
            except AsyncStoreError as error:
                outcomes.append((key, error))
        return outcomes

    def _content(self, content: bytes, as_stated: bool | None) -> Content:  # noqa: FBT001  # a field of Content
        return Content(len(content), content if self._keep else None, as_stated)

    async def _load_alone(self, key: Key) -> None:
        try:
            outcome: Outcome = await fetch(self._context, key, self._account, keep=self._keep)
        except AsyncStoreError as error:
            outcome = error
        await self._conclude([(key, outcome)])

    async def _conclude(self, outcomes: Outcomes) -> None:
        for key, outcome in outcomes:
            note_outcome(self._context, key, outcome)
        if outcomes:
            await self._deliver(outcomes)
