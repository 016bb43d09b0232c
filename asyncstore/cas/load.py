"""Loads and verifies many blobs: small ones in batches of one thread hop, larger ones each alone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from itertools import islice
from typing import TypeAlias

from asyncstore.cas.context import BATCH_BYTES, BATCH_ITEMS, CasContext
from asyncstore.cas.fetch import Content, expected_bytes, fetch
from asyncstore.cas.pack import unpack_verified
from asyncstore.concurrency import crew, task_group
from asyncstore.errors import AsyncStoreError, BlobNotFoundError, IntegrityError
from asyncstore.storage.base import StoredObject, SupportsBatch
from asyncstore.types import Key

Outcome: TypeAlias = Content | AsyncStoreError
Outcomes: TypeAlias = list[tuple[Key, Outcome]]
Deliver: TypeAlias = Callable[[Outcomes], Awaitable[None]]
HandOver: TypeAlias = Callable[[Key], Awaitable[None]]


def note_outcome(context: CasContext, key: Key, outcome: Outcome) -> None:
    """Remember what a load found, so that the next save of the same content skips it or heals it."""
    if isinstance(outcome, Content):
        context.known.add(key, None)
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
        batch = self._context.batch
        try:
            async with crew(self._load_alone, width=self._context.runtime.limits.requests) as hand_over:
                if batch is None or self._context.cache is not None:  # a cache is asked key by key
                    for key in remaining:
                        await hand_over(key)
                    return
                async with task_group() as group:
                    for _ in range(self._context.workers):
                        group.start_soon(self._load_batches, batch, remaining, hand_over)
        finally:
            self._account.close()

    async def _load_batches(self, batch: SupportsBatch, remaining: Iterator[Key], hand_over: HandOver) -> None:
        while keys := list(islice(remaining, BATCH_ITEMS)):
            for key in await self._load_batch(batch, keys):
                await hand_over(key)

    async def _load_batch(self, batch: SupportsBatch, keys: list[Key]) -> list[Key]:
        """Load the small blobs of a batch; return the keys that are to be loaded alone."""
        paths = self._context.paths(keys)
        async with self._account.reserve(BATCH_BYTES):
            try:
                found = await batch.get_batch(paths, max_bytes=BATCH_BYTES)
            except AsyncStoreError:
                return keys  # one of them is unreadable; alone, each gets an outcome of its own
        here = [index for index, item in enumerate(found) if item is not None and item.data is not None]
        items = [(keys[index], paths[index], item) for index in here if (item := found[index]) is not None]
        async with self._account.reserve(sum(expected_bytes(item.meta) for _, _, item in items)):
            outcomes = await self._context.runtime.pool.run(self._unpack, items)
            del found, items
            await self._conclude(list(zip((keys[index] for index in here), outcomes, strict=True)))
        there = set(here)
        return [key for index, key in enumerate(keys) if index not in there]

    def _unpack(self, items: list[tuple[Key, str, StoredObject]]) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for key, path, item in items:
            try:
                content = unpack_verified(
                    key,
                    item.data or b"",
                    item.meta.attributes,
                    where=path,
                    max_size=self._context.runtime.limits.max_blob_bytes,
                )
                outcomes.append(Content(len(content), content if self._keep else None))
            except AsyncStoreError as error:
                outcomes.append(error)
        return outcomes

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
