"""All runs of one flow in one storage."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager
from typing import Any, Literal, overload

from asyncstore.cas.cache import BlobCache
from asyncstore.cas.result import SavedBlob
from asyncstore.cas.store import ContentAddressedStore
from asyncstore.codec.base import Codec
from asyncstore.datastore.attempts import Attempts, check_attempt
from asyncstore.datastore.context import FlowContext, TaskMetadataCache
from asyncstore.datastore.discovery import attempts_of, named_tasks, tasks_of_run
from asyncstore.datastore.includes import IncludedFiles
from asyncstore.datastore.opening import AttemptRef, load_index, load_indexes
from asyncstore.datastore.registration import TaskRegistrar
from asyncstore.datastore.scrubbing import ScrubbingTaskDataStore
from asyncstore.datastore.serializers import ArtifactSerializer, SerializerRegistry
from asyncstore.datastore.task import TaskDataStore
from asyncstore.datastore.trust import Trust, TrustPolicy
from asyncstore.datastore.writable import WritableTaskDataStore
from asyncstore.errors import ConfigError, TaskNotFoundError
from asyncstore.layout import BLOB_DIRECTORY, blob_prefix, check_id, split_task_pathspec
from asyncstore.storage.base import DataStoreStorage
from asyncstore.types import BlobSource, Key, TaskPath

Mode = Literal["r", "w", "d"]


class FlowDataStore:
    """Opens tasks of ``flow_name`` for reading and writing, and keeps its blobs.

    ``codec`` is the form of new blobs ("gzip", which Metaflow reads, or "lz4"). ``metadata`` is told of finished
    attempts. ``serializers`` are asked before pickle; ``trust`` says which globals a pickle may name. ``includes``
    reads included files. ``blob_cache`` and ``task_metadata_cache`` keep what is read near the reader. Pickles by
    configuration if these do.
    """

    def __init__(
        self,
        flow_name: str,
        storage: DataStoreStorage,
        *,
        codec: Codec | str = "gzip",
        metadata: TaskRegistrar | None = None,
        serializers: Iterable[ArtifactSerializer] = (),
        trust: Trust | TrustPolicy = "metaflow",
        includes: IncludedFiles | None = None,
        blob_cache: BlobCache | None = None,
        task_metadata_cache: TaskMetadataCache | None = None,
    ) -> None:
        self._options: dict[str, Any] = {
            "codec": codec,
            "metadata": metadata,
            "serializers": tuple(serializers),
            "trust": TrustPolicy.parse(trust),
            "includes": includes,
            "blob_cache": blob_cache,
            "task_metadata_cache": task_metadata_cache,
        }
        self._context = FlowContext(
            check_id(flow_name, "flow"),
            storage,
            ContentAddressedStore(blob_prefix(flow_name), storage, codec=codec, cache=blob_cache),
            SerializerRegistry(self._options["serializers"], trust=self._options["trust"]),
            metadata,
            includes,
            task_metadata_cache,
        )

    @property
    def flow_name(self) -> str:
        return self._context.flow

    @property
    def storage(self) -> DataStoreStorage:
        return self._context.storage

    @property
    def cas(self) -> ContentAddressedStore:
        """The flow's content-addressed store."""
        return self._context.cas

    @property
    def serializers(self) -> SerializerRegistry:
        return self._context.serializers

    def __repr__(self) -> str:
        return f"FlowDataStore({self.flow_name!r}, {self.storage!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.flow_name, self.storage, self._options)

    @overload
    async def get_task_datastore(
        self, run: str, step: str, task: str, *, attempt: int | None = None, mode: Literal["r"] = "r",
        allow_not_done: bool = False,
    ) -> TaskDataStore: ...  # fmt: skip

    @overload
    async def get_task_datastore(
        self, run: str, step: str, task: str, *, attempt: int, mode: Literal["w"]
    ) -> WritableTaskDataStore: ...

    @overload
    async def get_task_datastore(
        self, run: str, step: str, task: str, *, attempt: int | None = None, mode: Literal["d"],
        allow_not_done: bool = False,
    ) -> ScrubbingTaskDataStore: ...  # fmt: skip

    async def get_task_datastore(
        self,
        run: str,
        step: str,
        task: str,
        *,
        attempt: int | None = None,
        mode: Mode = "r",
        allow_not_done: bool = False,
    ) -> TaskDataStore:
        """Open one attempt of a task: to read ("r"), to write ("w", ``attempt`` must be given), to scrub logs ("d").

        Without ``attempt`` the newest one that was started, even if an older one is done: the task may be running
        again. Two requests to read (a listing, the index), one if the attempt is not done, none to write. Raises
        `TaskNotFoundError` if there is no such attempt, or if it is not done and ``allow_not_done`` is false.
        """
        path = TaskPath(run, step, task)
        if attempt is not None:
            check_attempt(attempt)
        if mode == "w":
            if attempt is None:
                raise ConfigError("mode 'w' needs the number of the attempt")
            return WritableTaskDataStore(self._context, path, attempt)
        kind = {"r": TaskDataStore, "d": ScrubbingTaskDataStore}.get(mode)
        if kind is None:
            raise ConfigError(f"mode {mode!r} is not 'r', 'w' or 'd'")
        cached = await self._cached_index(path, attempt, allow_not_done=allow_not_done)
        if attempt is not None and cached is not None:
            return kind(self._context, path, attempt, cached)
        attempts = await attempts_of(self._context, path)
        chosen = attempts.latest if attempt is None else attempt
        directory = self._context.directory(path)
        if chosen is not None and chosen in attempts.done:
            return kind(self._context, path, chosen, await load_index(self._context, AttemptRef(path, chosen)))
        if chosen is None or chosen not in attempts.started:
            which = "no attempt" if attempt is None else f"no attempt {attempt}"
            raise TaskNotFoundError(f"{directory}: {which} was started", where=directory)
        if not allow_not_done:
            raise TaskNotFoundError(
                f"{directory}: attempt {chosen} is not done; pass allow_not_done=True to see its files, "
                "or the number of another attempt",
                where=directory,
            )
        return kind(self._context, path, chosen, None)

    async def get_task_datastores(
        self,
        run: str | None = None,
        *,
        steps: Iterable[str] | None = None,
        pathspecs: Iterable[str] | None = None,
        attempt: int | None = None,
        allow_not_done: bool = False,
        include_prior: bool = False,
    ) -> list[TaskDataStore]:
        """Open many tasks to read: those of a run, of ``steps`` of it, or those that ``pathspecs`` name.

        A pathspec is ``run/step/task``, or ``run/step/task/attempt`` for one attempt. Of each task the newest attempt
        that was started is given if it is done; with ``allow_not_done`` even if not; with ``include_prior`` all that
        are done too, oldest first. ``attempt`` looks at that attempt only, or with ``include_prior`` up to it. Tasks
        without such an attempt are left out. In the order of ``pathspecs``, else by step and number of task.

        One listing per run or step and one request per attempt given.
        """
        refs: list[AttemptRef]
        if attempt is not None:
            check_attempt(attempt)
        if pathspecs is not None:
            asked = [split_task_pathspec(pathspec) for pathspec in pathspecs]
            found = await named_tasks(self._context, (TaskPath(r, s, t) for r, s, t, _ in asked))
            chosen = [(TaskPath(r, s, t), attempt if own is None else check_attempt(own)) for r, s, t, own in asked]
        elif run is not None:
            found = await tasks_of_run(self._context, run, steps)
            chosen = [(path, attempt) for path in found]
        else:
            raise ConfigError("give a run or pathspecs")
        refs = [
            AttemptRef(path, number, is_done=number in found[path].done)
            for path, only in chosen
            if path in found
            for number in found[path].select(attempt=only, allow_not_done=allow_not_done, include_prior=include_prior)
        ]
        indexes = await load_indexes(self._context, (ref for ref in refs if ref.is_done))
        return [TaskDataStore(self._context, ref.path, ref.attempt, indexes.get(ref)) for ref in refs]

    async def runs(self) -> list[str]:
        """Return the runs that have anything stored, in no promised order. One listing."""
        async with self.storage.list(self.flow_name) as entries:
            names = [entry.path.rpartition("/")[2] async for entry in entries if entry.kind == "directory"]
        return [name for name in names if name != BLOB_DIRECTORY]

    async def find_attempts(self, run: str, *, steps: Iterable[str] | None = None) -> dict[TaskPath, Attempts]:
        """Return the tasks of a run, by step and number, and which attempts of each were started and are done.

        One listing, or one per step.
        """
        return await tasks_of_run(self._context, run, steps)

    async def save_data(self, blobs: Iterable[BlobSource] | AsyncIterable[BlobSource]) -> list[SavedBlob]:
        """Store raw blobs (code packages and the like) and return addresses and keys, in the order of the input."""
        return await self.cas.save_blobs(blobs, raw=True)

    def load_data(self, keys: Iterable[Key]) -> AbstractAsyncContextManager[AsyncIterator[tuple[Key, bytes]]]:
        """Load blobs by key, in the order of completion."""
        return self.cas.load_blobs(keys)

    async def _cached_index(self, path: TaskPath, attempt: int | None, *, allow_not_done: bool) -> Any:
        # As in Metaflow: a cache can speak only for one attempt, and only if it must be done.
        cache = self._context.indexes
        if cache is None or attempt is None or allow_not_done:
            return None
        return await cache.load_metadata(path, attempt)


def _rebuild(flow_name: str, storage: DataStoreStorage, options: dict[str, Any]) -> FlowDataStore:
    return FlowDataStore(flow_name, storage, **options)
