"""One attempt of one task, for writing: an index in memory until `done` publishes it."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, cast

from asyncstore.cas.result import SavedBlob
from asyncstore.cas.store import ContentAddressedStore
from asyncstore.datastore.context import FlowContext
from asyncstore.datastore.files import read_file, to_json, write_files
from asyncstore.datastore.index import ArtifactIndex, format_index, parse_index
from asyncstore.datastore.merging import plan_merge
from asyncstore.datastore.persisting import is_parameter, take_artifacts
from asyncstore.datastore.registration import register_attempt
from asyncstore.datastore.saving import Pair, save_values
from asyncstore.datastore.task import TaskDataStore
from asyncstore.errors import DataMissingError, TaskStateError
from asyncstore.layout import ATTEMPT_DONE, ATTEMPT_INDEX, ATTEMPT_STARTED, attempt_name, log_name
from asyncstore.types import Buffer, Json, Key, TaskPath


class WritableTaskDataStore(TaskDataStore):
    """A task opened in mode "w".

    Artifacts are stored as they are saved; the attempt shows them once `done` has returned. Whatever is cancelled or
    fails before, the attempt is not done. Not for use by two tasks at once.
    """

    def __init__(self, context: FlowContext, path: TaskPath, attempt: int) -> None:
        super().__init__(context, path, attempt, ArtifactIndex())
        self._started = False
        self._closed = False
        self._brought: set[Key] = set()

    @property
    def is_done(self) -> bool:
        """Whether this object has closed the attempt."""
        return self._closed

    async def init_task(self) -> None:
        """Tell that the attempt was started: from now on it hides older ones. One request."""
        self._check_open("init_task")
        await self._write({ATTEMPT_STARTED: to_json({"time": time.time()})})
        self._started = True

    async def save_artifacts(
        self, artifacts: Mapping[str, Any] | Iterable[Pair] | AsyncIterable[Pair]
    ) -> dict[str, Key]:
        """Store artifacts and return their keys, in the order of the input; a name saved before is replaced.

        Values are consumed lazily and serialized in the store's threads; a synchronous iterable must not block. Equal
        values are stored once. Raises `UnpicklableArtifactError` or `ArtifactError` naming the artifact, several as a
        group, after the others were stored; then, and if cancelled, the index is as it was before the call.
        """
        self._check_open("save_artifacts")
        # A mapping is an iterable too, of its names.
        pairs = cast("Mapping[str, Any]", artifacts).items() if isinstance(artifacts, Mapping) else artifacts
        saved = await save_values(self._context, pairs)
        self._check_open("save_artifacts")
        self.index.take(saved, saved.objects)
        return dict(saved.objects)

    async def save_metadata(
        self, contents: Mapping[str, Json], *, overwrite: bool = True, add_attempt: bool = True
    ) -> None:
        """Store JSON files of the task, in no order. One request each.

        Names are without the attempt's number unless ``add_attempt`` is false. Without ``overwrite``, files that are
        there stay as they are.
        """
        self._check_open("save_metadata")
        files = {name: to_json(value) for name, value in contents.items()}
        await self._write(files, overwrite=overwrite, add_attempt=add_attempt)

    async def save_metadata_after_done(self, contents: Mapping[str, Json], *, add_attempt: bool = True) -> None:
        """Store JSON files even if the attempt is done: for what a scheduler learns only then. Overwrites."""
        await self._write({name: to_json(value) for name, value in contents.items()}, add_attempt=add_attempt)

    async def save_logs(self, source: str, streams: Mapping[str, Buffer | os.PathLike[str]]) -> None:
        """Store the logs of a source by stream, given as bytes or as files, each replacing what was stored before.

        Also after `done`: the scheduler writes logs last. One request per stream.
        """
        files: dict[str, Buffer] = {}
        for stream, content in streams.items():
            data = await self._context.runtime.pool.run(_read, content) if isinstance(content, os.PathLike) else content
            files[log_name(source, stream)] = data
        await self._write(files)

    def passdown_partial(self, origin: TaskDataStore, names: Iterable[str]) -> None:
        """Take over entries of another task by key, of those names that it has; no request.

        Raises `TaskStateError` if its blobs are in another store and were not brought by `transfer_artifacts`.
        """
        self._check_open("passdown_partial")
        present = [name for name in names if name in origin]
        self._check_reachable(origin, present)
        self.index.take(origin.index, present)

    def merge_artifacts(
        self,
        inputs: Sequence[TaskDataStore],
        *,
        present: Collection[str] = (),
        include: Collection[str] = (),
        exclude: Collection[str] = (),
    ) -> list[str]:
        """Take over by key what the inputs of a join agree on, and return the names; no request.

        ``present`` are the names that the step has set itself. Rules and errors are those of
        `asyncstore.datastore.merging.plan_merge`; nothing is taken over if it raises.
        """
        plan = plan_merge(
            [one.items() for one in inputs], step=self.step_name, present=present, include=include, exclude=exclude
        )
        for position, origin in enumerate(inputs):
            self.passdown_partial(origin, [name for name, place in plan.items() if place == position])
        return list(plan)

    async def persist(
        self,
        flow: object,
        *,
        parent: TaskDataStore | None = None,
        skip: Callable[[object], bool] = is_parameter,
    ) -> dict[str, Key]:
        """Store the artifacts of a flow object, on top of all those of ``parent``; return the keys of the new ones.

        Removes the public ones from the object as they are saved. ``parent`` is for a step with one input, whose
        artifacts live on. Errors as in `save_artifacts`, and of `passdown_partial`.
        """
        self._check_open("persist")
        if parent is not None:
            self._check_reachable(parent, parent)
        saved = await save_values(self._context, take_artifacts(flow, skip=skip))
        if parent is not None:
            self.index.take(parent.index, parent)
        self.index.take(saved, saved.objects)
        return dict(saved.objects)

    def clone(self, origin: TaskDataStore) -> None:
        """Take over the whole index of another task, in place of this one's; no request. Raises `TaskStateError`."""
        self._check_open("clone")
        self._check_reachable(origin, origin)
        self._known_index = origin.index.copy()

    async def transfer_artifacts(self, origin: TaskDataStore, names: Iterable[str] | None = None) -> int:
        """Copy the blobs of another task's artifacts (all by default) into this store; return how many were written.

        Nothing to do if both share a store. The index is not changed: `passdown_partial` or `clone` comes after.
        """
        self._check_open("transfer_artifacts")
        wanted = {key for key in origin.keys_for_artifacts(origin if names is None else names) if key is not None}
        if self._shares_store(origin):
            return 0
        missing = await self._context.cas.missing(wanted)
        async with origin.cas.load_blobs(missing) as blobs:
            saved: list[SavedBlob] = await self._context.cas.save_blobs(_contents(blobs))
        self._brought |= wanted
        return len(saved)

    async def done(self) -> None:
        """Close the attempt: publish the index, then the marker, then register with the metadata provider.

        Three or more awaits in this order, so that a done attempt is complete. Repeating it, also through a new object
        after a crash, only repeats the registration. Raises `TaskStateError` if somebody else closed the attempt with
        other artifacts. If cancelled, the attempt is done and complete, or not done; call again to know.
        """
        if not self._closed:
            await self._publish()
        if self._context.registrar is not None:
            await register_attempt(
                self._context.registrar, self.flow_name, self.path, self.attempt, self.index, self._context.storage
            )

    async def _publish(self) -> None:
        storage = self._context.storage
        marker = self._file(attempt_name(self.attempt, ATTEMPT_DONE))
        index_path = self._file(attempt_name(self.attempt, ATTEMPT_INDEX))
        if await storage.head(marker) is not None:
            await self._adopt(index_path)
        else:
            if not self._started:
                await self.init_task()  # an attempt that was never started would not be found
            data = await self._context.runtime.pool.run(
                format_index, self.index, ds_type=storage.TYPE, attempt=self.attempt
            )
            await storage.put(index_path, data)
            await storage.put(marker, to_json(""))
        self._closed = True

    async def _adopt(self, index_path: str) -> None:
        """Take the index of an attempt that is done already, unless this object has something else to say."""
        data = await read_file(self._context.storage, index_path)
        if data is None:
            raise DataMissingError(
                f"the attempt is done, but {index_path} is not there; run a repair", where=index_path
            )
        stored = parse_index(data, where=index_path)
        if self.index.objects and self.index.objects != stored.objects:
            raise TaskStateError(
                f"{index_path} was published by somebody else with other artifacts; write a new attempt",
                operation="done",
                where=index_path,
            )
        self._known_index = stored

    def _check_open(self, operation: str) -> None:
        if self._closed:
            raise TaskStateError(
                f"{operation}: attempt {self.attempt} of {self._directory} is done and cannot be changed; "
                "write a new attempt",
                operation=operation,
                where=self._directory,
            )

    def _check_reachable(self, origin: TaskDataStore, names: Iterable[str]) -> None:
        if self._shares_store(origin):
            return
        for name in names:
            if origin.index.objects[name] not in self._brought:
                raise TaskStateError(
                    f"artifact {name!r} of {origin!r} is in another store; await transfer_artifacts first",
                    operation="passdown_partial",
                    where=self._directory,
                )

    def _shares_store(self, origin: TaskDataStore) -> bool:
        return _place(self.cas) == _place(origin.cas)

    async def _write(self, files: Mapping[str, Buffer], *, overwrite: bool = True, add_attempt: bool = True) -> None:
        named = {
            self._file(attempt_name(self.attempt, name) if add_attempt else name): data for name, data in files.items()
        }
        await write_files(self._context.storage, named, overwrite=overwrite)


def _place(cas: ContentAddressedStore) -> tuple[str, str, str]:
    """Return what two stores must share so that a key means the same blob in both."""
    return cas.storage.TYPE, cas.storage.root, cas.prefix


async def _contents(blobs: AsyncIterator[tuple[Key, bytes]]) -> AsyncIterator[bytes]:
    async for _, content in blobs:
        yield content


def _read(path: os.PathLike[str]) -> bytes:
    with open(path, "rb") as file:
        return file.read()
