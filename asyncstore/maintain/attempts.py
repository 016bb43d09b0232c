"""Verifies that finished attempts are complete and known to the metadata provider."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from anyio.abc import ObjectSendStream

from asyncstore.concurrency import feed, run_all
from asyncstore.datastore.flow import FlowDataStore
from asyncstore.datastore.registration import ATTEMPT_DONE_FIELD
from asyncstore.datastore.task import TaskDataStore
from asyncstore.errors import AsyncStoreError, IntegrityError, NotFoundError
from asyncstore.metadata.base import MetadataProvider, fetch_objects
from asyncstore.metadata.local import LocalMetadataProvider
from asyncstore.storage.base import DataStoreStorage
from asyncstore.types import TaskPath

WIDTH = 32
"""Attempts that are looked at at once."""


@dataclass(frozen=True, slots=True)
class CheckedAttempt:
    """One attempt that is done, and what was found.

    ``missing`` are artifacts whose blobs are not there. ``registered`` is None where no provider was asked. ``error``
    is why the attempt could not be opened, or its provider not asked.
    """

    flow: str
    path: TaskPath
    attempt: int
    missing: tuple[str, ...] = ()
    registered: bool | None = None
    error: AsyncStoreError | None = None

    @property
    def pathspec(self) -> str:
        return f"{self.flow}/{self.path.run}/{self.path.step}/{self.path.task}"

    @property
    def incomplete(self) -> bool:
        """Whether the attempt is done, and part of it is not there or damaged: what must never be."""
        return bool(self.missing) or isinstance(self.error, IntegrityError | NotFoundError)

    @property
    def cause(self) -> str | None:
        """What is wrong and what to do, None if all is well."""
        if self.error is not None:
            return str(self.error)
        if self.missing:
            return f"blobs are not there: {', '.join(self.missing)}"
        if self.registered is False:
            return "done, not registered: open it in mode 'w' and call done() again"
        return None


@dataclass(slots=True)
class AttemptTotals:
    """What a check of attempts has seen so far."""

    done: int = 0
    incomplete: int = 0
    unregistered: int = 0
    unanswered: int = 0

    def add(self, checked: CheckedAttempt) -> None:
        """Count one attempt."""
        self.done += 1
        self.incomplete += checked.incomplete
        self.unregistered += checked.registered is False
        self.unanswered += checked.error is not None and not checked.incomplete


async def local_metadata(storage: DataStoreStorage, flow: str) -> LocalMetadataProvider | None:
    """Return the provider whose files lie beside a flow's data on local disk; None if there is none of this flow."""
    if storage.TYPE not in {"local", "spin"}:
        return None
    provider = LocalMetadataProvider(storage.root, runtime=storage.runtime)
    return None if await provider.get_object(flow) is None else provider


@asynccontextmanager
async def check_attempts(
    flow: FlowDataStore, *, runs: Iterable[str] | None = None, metadata: MetadataProvider | None = None
) -> AsyncGenerator[AsyncIterator[CheckedAttempt]]:
    """Feed the outcome of each attempt that is done, of ``runs`` or of all, in no promised order.

    Blobs are looked for, not read (see `asyncstore.maintain.check`): a request for each blob once. With ``metadata``,
    all artifacts and the end of the attempt must be registered there. An attempt with a fault is an outcome; a
    listing that fails raises from the block.
    """
    wanted = list(await flow.runs() if runs is None else runs)

    async def produce(sender: ObjectSendStream[CheckedAttempt]) -> None:
        async def look(item: tuple[TaskPath, int]) -> None:
            await sender.send(await _check(flow, *item, metadata))

        for run in wanted:
            found = await flow.find_attempts(run)
            done = ((path, number) for path, attempts in found.items() for number in sorted(attempts.done))
            await run_all(done, look, width=min(WIDTH, flow.storage.runtime.limits.requests))

    async with feed(produce) as checked:
        yield checked


async def _check(
    flow: FlowDataStore, path: TaskPath, attempt: int, metadata: MetadataProvider | None
) -> CheckedAttempt:
    try:
        store = await flow.get_task_datastore(path.run, path.step, path.task, attempt=attempt)
        absent = await flow.cas.missing(dict.fromkeys(key for _, key in store.items()))
        missing = tuple(name for name, key in store.items() if key in absent)
        registered = None if metadata is None else await _is_registered(store, metadata)
    except AsyncStoreError as error:
        return CheckedAttempt(flow.flow_name, path, attempt, error=error)
    return CheckedAttempt(flow.flow_name, path, attempt, missing, registered)


async def _is_registered(store: TaskDataStore, metadata: MetadataProvider) -> bool:
    address = (store.flow_name, store.run_id, store.step_name, store.task_id)
    rows = await fetch_objects(metadata, "metadata", *address)
    ended = {str(row.datum.value) for row in rows if row.datum is not None and row.datum.field == ATTEMPT_DONE_FIELD}
    if str(store.attempt) not in ended:
        return False
    artifacts = await fetch_objects(metadata, "artifact", *address, attempt=store.attempt)
    return {artifact.id for artifact in artifacts} >= set(store)
