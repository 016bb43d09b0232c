"""Many tasks opened at once, with the artifacts that they share loaded once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import anyio

from asyncstore.datastore.flow import FlowDataStore
from asyncstore.datastore.task import TaskDataStore
from asyncstore.types import Key

_STACKS = ("_foreach_stack", "_iteration_stack")


class TaskDataStoreSet:
    """Tasks of one flow, in the order of `FlowDataStore.get_task_datastores`; made by `open`."""

    def __init__(self, flow: FlowDataStore, tasks: Iterable[TaskDataStore], *, indexed: bool = True) -> None:
        self._flow = flow
        self._tasks = list(tasks)
        self._indexed = indexed
        self._by_pathspec = {task.pathspec: task for task in self._tasks} if indexed else {}
        self._by_index: Mapping[str, TaskDataStore] | None = None if indexed else {}
        self._building = anyio.Lock()

    @classmethod
    async def open(
        cls,
        flow: FlowDataStore,
        run: str | None = None,
        *,
        steps: Iterable[str] | None = None,
        pathspecs: Iterable[str] | None = None,
        prefetch: Iterable[str] = (),
        allow_not_done: bool = False,
    ) -> TaskDataStoreSet:
        """Open tasks as `FlowDataStore.get_task_datastores` does and load the artifacts called ``prefetch``.

        Each distinct blob is loaded once and kept as long as the set, for the tasks of this set only. With
        ``allow_not_done`` the look-ups below find nothing, as in Metaflow.
        """
        tasks = await flow.get_task_datastores(run, steps=steps, pathspecs=pathspecs, allow_not_done=allow_not_done)
        names = list(prefetch)
        blobs = await _load_once(flow, (task for task in tasks if task.is_done), names) if names else {}
        return cls(flow, [task.with_blobs(blobs) for task in tasks], indexed=not allow_not_done)

    def __iter__(self) -> Iterator[TaskDataStore]:
        return iter(self._tasks)

    def __len__(self) -> int:
        return len(self._tasks)

    def get_with_pathspec(self, pathspec: str) -> TaskDataStore | None:
        """Return the task ``run/step/task``, or None."""
        return self._by_pathspec.get(pathspec)

    async def get_with_pathspec_index(self, pathspec_index: str) -> TaskDataStore | None:
        """Return the task ``run/step[i,j]`` (see `TaskDataStore.pathspec_index`), or None.

        The first call loads the stacks of all tasks, each distinct one once. Raises `DataMissingError` if a task has
        no ``_foreach_stack``.
        """
        async with self._building:
            if self._by_index is None:
                blobs = await _load_once(self._flow, self._tasks, _STACKS)
                self._by_index = {await task.with_blobs(blobs).pathspec_index(): task for task in self._tasks}
        return self._by_index.get(pathspec_index)


async def _load_once(flow: FlowDataStore, tasks: Iterable[TaskDataStore], names: Iterable[str]) -> dict[Key, bytes]:
    wanted = list(names)
    keys = {key for task in tasks for key in task.keys_for_artifacts(wanted) if key is not None}
    async with flow.cas.load_blobs(keys) as blobs:
        return {key: blob async for key, blob in blobs}
