"""Metadata in Metaflow's own files below a datastore root.

Follows Metaflow 2.19 ``plugins/metadata_providers/local.py``. A reader cannot tell the difference, but here a tag
edit keeps owner and creation time, concurrent tag edits all survive, and ids do not collide between processes.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Final, Self, TypeVar

from asyncstore.concurrency import aiter_any
from asyncstore.metadata.local_listing import LocalListing
from asyncstore.metadata.local_reading import RecordReader
from asyncstore.metadata.local_registering import Registrar
from asyncstore.metadata.local_threads import run_files, run_locked
from asyncstore.metadata.local_writing import RecordWriter
from asyncstore.metadata.objects import (
    TagFilter,
    check_address,
    check_attempt,
    check_list,
    check_pattern,
    is_numbered,
    newest_first,
    path_order,
)
from asyncstore.metadata.records import BeatReply, DataArtifactRecord, Kind, MetaDatum, MetaObject
from asyncstore.metadata.rows import value_as_text
from asyncstore.metadata.sticky import Stamper
from asyncstore.metadata.system import SystemInfo
from asyncstore.metadata.tags import check_mutation
from asyncstore.runtime import Runtime
from asyncstore.types import Durability

T = TypeVar("T")

_FILES_AT_ONCE: Final = 64
"""Files written in one call of a thread, about 50 ms when each is synced."""


class LocalMetadataProvider:
    """A `MetadataProvider` over the files below ``root``, the directory that Metaflow calls ``.metaflow``.

    Nothing is created before the first registration. ``partial=True`` is for a tree that holds only what one task
    wrote, to be merged where the run is registered (see `asyncstore.metadata.sync`): there a missing run, step or
    task is no error. ``clock`` gives nanoseconds since 1970 for run numbers. Pickles as its arguments.
    """

    TYPE: str = "local"

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        runtime: Runtime | None = None,
        system: SystemInfo | None = None,
        durability: Durability = "safe",
        file_mode: int | None = None,
        partial: bool = False,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self.root: str = os.path.abspath(root)
        self._owns_runtime = runtime is None
        self._runtime = Runtime() if runtime is None else runtime
        self._stamper = Stamper(system)
        self._reader = RecordReader(self.root)
        self._registrar = Registrar(RecordWriter(self.root, durability, file_mode), self._reader, partial)
        self._clock = clock

    def __repr__(self) -> str:
        return f"LocalMetadataProvider({self.root!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End the threads, if they are this provider's own."""
        if self._owns_runtime:
            await self._runtime.aclose()

    @property
    def info(self) -> str:
        """The directory that holds the root, which is what Metaflow's ``local@`` names."""
        return os.path.dirname(self.root)

    async def version(self) -> str | None:
        """Return "local"."""
        return self.TYPE

    def add_sticky_tags(self, *, tags: Iterable[str] = (), system_tags: Iterable[str] = ()) -> None:
        """Put tags on all that this object registers from now on."""
        self._stamper.add(tags, system_tags)

    async def new_run_id(self, flow: str, *, tags: Iterable[str] = (), system_tags: Iterable[str] = ()) -> str:
        """Create a run and return its number, the time in microseconds."""
        check_address(flow)
        stamp = await self._stamper.stamp(self._runtime.pool, flow, tags, system_tags)
        return await run_files(self._runtime.pool, self._registrar.new_run, stamp, self._clock)

    async def register_run_id(
        self, flow: str, run: str, *, tags: Iterable[str] = (), system_tags: Iterable[str] = ()
    ) -> bool:
        """Create the run called ``run`` if it is absent; return whether this call did."""
        check_address(flow, run)
        stamp = await self._stamper.stamp(self._runtime.pool, flow, tags, system_tags)
        if is_numbered(run):
            return False
        return await run_files(self._runtime.pool, self._registrar.named_run, stamp, run)

    async def new_task_id(
        self, flow: str, run: str, step: str, *, tags: Iterable[str] = (), system_tags: Iterable[str] = ()
    ) -> str:
        """Create a task and return its number, which counts the tasks of its run from 0."""
        check_address(flow, run, step)
        stamp = await self._stamper.stamp(self._runtime.pool, flow, tags, system_tags)
        metadata = await self._stamper.metadata(self._runtime.pool, 0)
        return await run_locked(self._runtime.pool, self._registrar.new_task, stamp, run, step, metadata)

    async def register_task_id(
        self,
        flow: str,
        run: str,
        step: str,
        task: str,
        *,
        attempt: int = 0,
        tags: Iterable[str] = (),
        system_tags: Iterable[str] = (),
    ) -> bool:
        """Create the task called ``task`` if it is absent, and record system metadata for ``attempt``."""
        check_address(flow, run, step, task)
        check_attempt(attempt, required=True)
        stamp = await self._stamper.stamp(self._runtime.pool, flow, tags, system_tags)
        metadata = await self._stamper.metadata(self._runtime.pool, attempt)
        if is_numbered(task):
            await run_files(self._runtime.pool, self._registrar.add_metadata, stamp, run, step, task, metadata)
            return False
        return await run_files(self._runtime.pool, self._registrar.named_task, stamp, run, step, task, metadata)

    async def register_data_artifacts(
        self, flow: str, run: str, step: str, task: str, *, attempt: int, artifacts: Iterable[DataArtifactRecord]
    ) -> None:
        """Record where the artifacts of an attempt are, one file each; those that are there stay as they are."""
        check_address(flow, run, step, task)
        check_attempt(attempt, required=True)
        stamp = await self._stamper.stamp(self._runtime.pool, flow)
        for batch in _batches(artifacts):
            await run_files(self._runtime.pool, self._registrar.add_artifacts, stamp, run, step, task, attempt, batch)

    async def register_metadata(self, flow: str, run: str, step: str, task: str, metadata: Iterable[MetaDatum]) -> None:
        """Add rows to a task's metadata, one file each."""
        check_address(flow, run, step, task)
        stamp = await self._stamper.stamp(self._runtime.pool, flow)
        for batch in _batches(metadata):
            await run_files(self._runtime.pool, self._registrar.add_metadata, stamp, run, step, task, batch)

    async def mutate_user_tags_for_run(
        self, flow: str, run: str, *, add: Iterable[str] = (), remove: Iterable[str] = ()
    ) -> frozenset[str]:
        """Change the user tags of a run, at most 50, and return those it has afterwards.

        Changes by several processes of ours all take effect; Metaflow itself takes no lock.
        """
        check_address(flow, run, least=2)
        adding, removing = check_mutation(add, remove)
        return await run_locked(self._runtime.pool, self._registrar.mutate_tags, flow, run, adding, removing)

    async def write_latest_run(self, flow: str, run: str) -> None:
        """Note the run that Metaflow's command line takes by default; its ``run`` does so, its ``resume`` not."""
        check_address(flow, run, least=2)
        await run_files(self._runtime.pool, self._registrar.write_latest_run, flow, run)

    async def read_latest_run(self, flow: str) -> str | None:
        """Return the run that Metaflow's command line takes by default, or None."""
        check_address(flow)
        return await run_files(self._runtime.pool, self._registrar.read_latest_run, flow)

    async def get_object(self, *path: str, attempt: int | None = None) -> MetaObject | None:
        """Return a flow, run, step, task or artifact, or None. ``attempt`` None is the latest that is done."""
        check_address(*path)
        check_attempt(attempt)
        return await LocalListing(self._reader, self._runtime.pool).object(path, attempt)

    @asynccontextmanager
    async def list_objects(
        self, kind: Kind, *path: str, filters: TagFilter | None = None, attempt: int | None = None
    ) -> AsyncGenerator[AsyncIterator[MetaObject]]:
        """Iterate over the objects of one kind below ``path``, newest first; all are read before the first."""
        check_list(kind, path, attempt)
        items = await LocalListing(self._reader, self._runtime.pool).objects(kind, path, attempt)
        wanted = items if filters is None else [item for item in items if filters.admits(item)]
        yield aiter_any(newest_first(wanted))

    async def filter_tasks_by_metadata(
        self, flow: str, run: str, step: str, *, field: str | None = None, pattern: str | None = None
    ) -> list[str]:
        """Return the pathspecs of the tasks with a matching metadata row, by number."""
        check_address(flow, run, step)
        compiled = check_pattern(pattern)
        rows = await LocalListing(self._reader, self._runtime.pool).metadata_by_task((flow, run, step))
        found = {
            task
            for task, data in rows.items()
            for datum in (row.datum for row in data)
            if datum is not None and field in {None, "", datum.field} and compiled.search(value_as_text(datum.value))
        }
        return ["/".join(task) for task in sorted(found, key=path_order)]

    async def beat(self, flow: str, run: str, step: str | None = None, task: str | None = None) -> BeatReply:
        """Do nothing: heartbeats are not kept in files."""
        check_address(*(piece for piece in (flow, run, step, task) if piece is not None), least=2)
        return BeatReply(accepted=True, wait=None)


def _batches(items: Iterable[T]) -> Iterable[list[T]]:
    everything = list(items)
    return (everything[start : start + _FILES_AT_ONCE] for start in range(0, len(everything), _FILES_AT_ONCE))
