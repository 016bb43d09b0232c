"""Saves many blobs: a pipeline of packing in threads and storing in requests, bounded in memory and in tasks."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TypeAlias

import anyio

from asyncstore.cas.context import BATCH_BYTES, BATCH_ITEMS, SMALL, WHOLE, CasContext
from asyncstore.cas.large import LargeBlob, digest, save_window
from asyncstore.cas.pack import Packed, can_be_whole, hash_of, pack_small, small_content
from asyncstore.cas.result import SavedBlob
from asyncstore.cas.source import ChunkedSource, Source, open_source
from asyncstore.cas.writer import BlobWriter, WholeBlob
from asyncstore.codec.registry import RAW
from asyncstore.concurrency import aiter_any, crew, task_group
from asyncstore.errors import IntegrityError
from asyncstore.limits import MemoryBudget
from asyncstore.storage.base import PutItem, SupportsBatch
from asyncstore.types import KIB, BlobSource, Key, ObjectMeta

TYPICAL_FILE = 32 * KIB
"""What a file counts for when a batch is filled; its size is not known before it is opened, in a thread."""


@dataclass(slots=True)
class _Entry:
    """A source at its place in the input; ``held`` is the memory reserved for it."""

    index: int
    source: Source
    held: int = 0


@dataclass(slots=True)
class _Small:
    """A packed blob, and all the places of the input in a batch that have its content."""

    packed: Packed
    indexes: list[int]

    @property
    def held(self) -> int:
        return len(self.packed.content) + len(self.packed.stored or b"")


_Job: TypeAlias = _Entry | _Small
_HandOver: TypeAlias = Callable[[_Job], Awaitable[None]]


class SaveOperation:
    """Saves the blobs of one call."""

    def __init__(self, context: CasContext, *, raw: bool, verify_existing: bool, reserved: bool = False) -> None:
        self._context = context
        self._codec = RAW if raw else context.codec
        self._writer = BlobWriter(context, raw=raw, verify_existing=verify_existing)
        # What the caller has reserved is not counted again: it would wait for itself.
        budget = MemoryBudget(sys.maxsize) if reserved else context.runtime.memory
        self._account = budget.account()
        self._results: list[SavedBlob | None] = []
        self._turn = anyio.Lock()

    async def run(self, blobs: Iterable[BlobSource] | AsyncIterable[BlobSource]) -> list[SavedBlob]:
        """Save all blobs and return one result each, in the order of the input."""
        source = aiter_any(blobs)
        try:
            async with (
                aclosing(source),
                crew(self._store, width=self._context.runtime.limits.requests) as hand_over,
                task_group() as group,
            ):
                for _ in range(self._context.workers):
                    group.start_soon(self._prepare, source, hand_over)
        finally:
            self._account.close()
        return [saved for saved in self._results if saved is not None]

    async def _prepare(self, source: AsyncGenerator[BlobSource], hand_over: _HandOver) -> None:
        while entries := await self._pull(source):
            await self._pack_batch(entries, hand_over)

    async def _pull(self, source: AsyncGenerator[BlobSource]) -> list[_Entry]:
        """Take the next blobs of the input, a batch's worth."""
        entries: list[_Entry] = []
        size = 0
        async with self._turn:
            while len(entries) < BATCH_ITEMS and size < BATCH_BYTES:
                try:
                    blob = await anext(source)
                except StopAsyncIteration:
                    break
                opened = open_source(blob)
                entries.append(_Entry(len(self._results), opened))
                self._results.append(None)
                size += TYPICAL_FILE if opened.size is None else opened.size
        return entries

    async def _pack_batch(self, entries: list[_Entry], hand_over: _HandOver) -> None:
        small: list[_Entry] = []
        for entry in entries:
            if _may_be_small(entry.source):
                small.append(entry)
            else:
                await self._hand_over_alone(entry, hand_over)
        reserved = sum(2 * (SMALL if entry.source.size is None else entry.source.size) for entry in small)
        if not reserved and not small:
            return
        await self._account.take(reserved)
        packed = await self._context.runtime.pool.run(
            pack_small, [entry.source for entry in small], self._codec, SMALL, self._writer.is_known
        )
        jobs: dict[Key, _Small] = {}
        longer: list[_Entry] = []
        for entry, item in zip(small, packed, strict=True):
            if item is None:
                longer.append(entry)
            elif (job := jobs.get(item.key)) is not None:
                job.indexes.append(entry.index)
            else:
                jobs[item.key] = _Small(item, [entry.index])
        held = sum(job.held for job in jobs.values())
        self._account.give(reserved - held)
        if (batch := self._context.batch) is not None:
            await self._store_batch(batch, jobs)
            self._account.give(held)
        else:
            for job in jobs.values():
                await hand_over(job)
        for entry in longer:
            await self._hand_over_alone(entry, hand_over)

    async def _hand_over_alone(self, entry: _Entry, hand_over: _HandOver) -> None:
        # Reserved here and not by the crew: with all of them waiting for memory, packed blobs that hold it would
        # wait for one of the crew, and all of them for ever.
        size = entry.source.size
        whole = size is not None and size <= WHOLE
        held = 2 * (size or 0) if whole else save_window(self._context, self._codec, size)
        await self._account.take(held)
        await hand_over(replace(entry, held=held))

    async def _store_batch(self, batch: SupportsBatch, waiting: dict[Key, _Small]) -> None:
        """Store small blobs together; those that somebody else is storing now are waited for."""
        known = self._context.known
        while waiting:
            for key in [key for key in waiting if self._writer.is_known(key)]:
                job = waiting.pop(key)
                self._conclude(job, self._writer.existing(key, job.packed.size, known.stored_size(key)))
            if mine := known.claim(waiting):
                try:
                    await self._put_batch(batch, [waiting.pop(key) for key in mine])
                finally:
                    known.release(mine)
            elif waiting:
                await known.landed(next(iter(waiting)))

    async def _put_batch(self, batch: SupportsBatch, jobs: list[_Small]) -> None:
        whole = [job for job in jobs if job.packed.stored is not None]
        fresh = [job for job in whole if not self._context.known.is_damaged(job.packed.key)]
        metas = await batch.put_batch([self._put_item(job.packed) for job in fresh], mode="create")
        refused: list[_Small] = []
        for job, meta in zip(fresh, metas, strict=True):
            if meta is None:
                refused.append(job)
            else:
                self._conclude(job, self._writer.written(job.packed.key, job.packed.size, meta))
        await self._settle_batch(batch, refused)
        for job in jobs:
            if self._results[job.indexes[0]] is None:
                self._conclude(job, await self._writer.save_claimed(WholeBlob(self._context, job.packed)))

    def _put_item(self, packed: Packed) -> PutItem:
        return PutItem(self._context.path(packed.key), packed.stored or b"", packed.attributes)

    async def _settle_batch(self, batch: SupportsBatch, refused: list[_Small]) -> None:
        if not refused:
            return
        found: list[ObjectMeta | None]
        try:
            found = await batch.head_batch(self._context.paths(job.packed.key for job in refused))
        except IntegrityError:
            return  # one has unreadable attributes; each is looked at alone
        for job, meta in zip(refused, found, strict=True):
            if meta is not None and can_be_whole(meta, job.packed.size):
                self._conclude(job, await self._writer.settle(WholeBlob(self._context, job.packed), meta))

    async def _store(self, job: _Job) -> None:
        if isinstance(job, _Small):
            self._conclude(job, await self._writer.save(WholeBlob(self._context, job.packed)))
        else:
            self._results[job.index] = await self._store_alone(job.source)
        self._account.give(job.held)

    async def _store_alone(self, source: Source) -> SavedBlob:
        pool = self._context.runtime.pool
        if source.size is not None and source.size <= WHOLE:
            content = await pool.run(small_content, source, WHOLE)
            if content is not None:
                key = await pool.run(hash_of, content)
                return await self._writer.save(WholeBlob(self._context, Packed(key, content, self._codec, None)))
        found = await digest(self._context, source, self._codec)
        return await self._writer.save(LargeBlob(self._context, source, found, self._codec))

    def _conclude(self, job: _Small, saved: SavedBlob) -> None:
        self._results[job.indexes[0]] = saved
        for index in job.indexes[1:]:
            self._results[index] = replace(saved, existed=True)


def memory_to_save(context: CasContext, size: int) -> int:
    """Return the memory that saving a blob of ``size`` bytes takes beside the content that the caller holds."""
    return 2 * size if size <= WHOLE else save_window(context, context.codec, size)


def _may_be_small(source: Source) -> bool:
    return not isinstance(source, ChunkedSource) and (source.size is None or source.size <= SMALL)
