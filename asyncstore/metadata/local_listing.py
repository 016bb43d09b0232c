"""Lists of the local provider, read in batches by the store's threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from asyncstore.concurrency import ThreadPool
from asyncstore.metadata.attempts import rows_of_attempt
from asyncstore.metadata.local_reading import RecordReader
from asyncstore.metadata.local_threads import run_files
from asyncstore.metadata.records import Kind, MetaObject

T = TypeVar("T")
Path = tuple[str, ...]

_FILES_AT_ONCE: Final = 256
"""Files read in one call of a thread, about 10 ms."""
_TASKS_AT_ONCE: Final = 16
"""Tasks whose files are read in one call of a thread."""


@dataclass(frozen=True, slots=True)
class LocalListing:
    """Answers the questions of `MetadataProvider.get_object` and `list_objects` from files."""

    reader: RecordReader
    pool: ThreadPool

    async def object(self, path: Path, attempt: int | None) -> MetaObject | None:
        """Return a flow, run, step, task or artifact."""
        if len(path) <= 2:
            return await run_files(self.pool, self.reader.object, path)
        return await run_files(self.pool, self._below_run, path, attempt)

    async def objects(self, kind: Kind, path: Path, attempt: int | None) -> list[MetaObject]:
        """Return the objects of one kind below ``path``, in no order."""
        run = await run_files(self.pool, self.reader.object, path[:2]) if len(path) >= 2 else None
        if kind in {"flow", "run", "step"} or (kind == "task" and len(path) == 3):
            children = await run_files(self.pool, self.reader.children, *path)
            return await self._read(children, lambda ids: self.reader.objects(ids, run))
        tasks = [path] if len(path) == 4 else await self._tasks(path)
        if kind == "task":
            return await self._read(tasks, lambda ids: self.reader.objects(ids, run))
        if kind == "metadata":
            return await self._read(tasks, lambda ids: self._metadata(ids, attempt), _TASKS_AT_ONCE)
        return await self._read(tasks, lambda ids: self._artifacts(ids, attempt, run), _TASKS_AT_ONCE)

    async def metadata_by_task(self, step: Path) -> dict[Path, list[MetaObject]]:
        """Return the metadata rows of each task of a step."""
        rows: dict[Path, list[MetaObject]] = {}
        for row in await self._read(await self._tasks(step), lambda ids: self._metadata(ids, None), _TASKS_AT_ONCE):
            rows.setdefault(row.path, []).append(row)
        return rows

    async def _tasks(self, path: Path) -> list[Path]:
        steps = [path] if len(path) == 3 else await run_files(self.pool, self.reader.children, *path)
        return await self._read(steps, lambda ids: [task for step in ids for task in self.reader.children(*step)])

    async def _read(
        self, items: Sequence[Path], read: Callable[[Sequence[Path]], list[T]], size: int = _FILES_AT_ONCE
    ) -> list[T]:
        found: list[T] = []
        for start in range(0, len(items), size):
            found += await run_files(self.pool, read, items[start : start + size])
        return found

    def _below_run(self, path: Path, attempt: int | None) -> MetaObject | None:
        run = self.reader.object(path[:2])
        if len(path) < 5:
            return self.reader.object(path, run)
        return self.reader.artifact(path, attempt, run)

    def _metadata(self, tasks: Iterable[Path], attempt: int | None) -> list[MetaObject]:
        found: list[MetaObject] = []
        for task in tasks:
            found += rows_of_attempt(self.reader.data(task, self.reader.record_names(task)), attempt)
        return found

    def _artifacts(self, tasks: Iterable[Path], attempt: int | None, run: MetaObject | None) -> list[MetaObject]:
        return [item for task in tasks for item in self.reader.artifacts(task, attempt, run)]
