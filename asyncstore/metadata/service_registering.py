"""Creating objects in a metadata service, safely repeated."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, TypeVar

from asyncstore.concurrency import SingleFlight
from asyncstore.errors import MetadataError, TaskNotFoundError
from asyncstore.metadata.payloads import (
    MAX_TEXT,
    Stamp,
    artifact_payload,
    datum_payload,
    flow_payload,
    run_payload,
    step_payload,
    task_payload,
)
from asyncstore.metadata.records import DataArtifactRecord, Kind, MetaDatum
from asyncstore.metadata.rows import as_object, parse_row
from asyncstore.metadata.service_paths import create_path, object_path
from asyncstore.metadata.service_transport import ServiceTransport
from asyncstore.types import Json

T = TypeVar("T")

ROWS_AT_ONCE: Final = 1000
"""Most rows in one request, about half a megabyte."""
_KNOWN: Final = 10_000


@dataclass(frozen=True, slots=True)
class _Parent:
    """What must be there first: a flow or a step, with the document that creates it."""

    kind: Kind
    ids: tuple[str, ...]
    payload: dict[str, Json]


class ServiceRegistrar:
    """Registers flows, runs, steps, tasks, metadata and artifacts.

    Flows and steps seen to exist are not asked for again; should the service have lost one, it is made anew.
    """

    def __init__(self, transport: ServiceTransport) -> None:
        self._transport = transport
        self._known: OrderedDict[tuple[str, ...], None] = OrderedDict()
        self._parents = SingleFlight[bool]()

    async def new_run(self, stamp: Stamp) -> str:
        """Create a run that the service numbers, and return the number."""
        flow = _Parent("flow", (stamp.flow,), flow_payload(stamp))
        return await self._below(flow, lambda: self._numbered("run", flow.ids, run_payload(stamp, None)))

    async def named_run(self, stamp: Stamp, run: str) -> bool:
        """Create a run with this name; return False if it was there."""
        flow = _Parent("flow", (stamp.flow,), flow_payload(stamp))
        payload = run_payload(stamp, run)
        return await self._below(flow, lambda: self._named("run", (*flow.ids, run), flow.ids, payload))

    async def new_task(self, stamp: Stamp, run: str, step: str) -> str:
        """Create a task that the service numbers, and return the number."""
        parent = _Parent("step", (stamp.flow, run, step), step_payload(stamp, run, step))
        payload = task_payload(stamp, run, step, None)
        return await self._below(parent, lambda: self._numbered("task", parent.ids, payload))

    async def named_task(self, stamp: Stamp, run: str, step: str, task: str) -> bool:
        """Create a task with this name; return False if it was there."""
        parent = _Parent("step", (stamp.flow, run, step), step_payload(stamp, run, step))
        payload = task_payload(stamp, run, step, task)
        return await self._below(parent, lambda: self._named("task", (*parent.ids, task), parent.ids, payload))

    async def add_metadata(self, stamp: Stamp, run: str, step: str, task: str, metadata: Iterable[MetaDatum]) -> None:
        """Add rows to a task; those that the service drops raise `MetadataError`."""
        rows: list[Json] = [datum_payload(stamp, run, step, task, datum) for datum in metadata]
        path = create_path("metadata", stamp.flow, run, step, task)
        for batch in _batches(rows):
            created = await self._add(path, batch, "metadata_created")
            if created is not None and created < len(batch):
                raise MetadataError(
                    f"{self._transport.base}{path}: the service dropped {len(batch) - created} of {len(batch)} rows",
                    operation="register_metadata",
                    where=path,
                )

    async def add_artifacts(
        self, stamp: Stamp, run: str, step: str, task: str, attempt: int, artifacts: Iterable[DataArtifactRecord]
    ) -> None:
        """Record artifacts.

        The service does not tell those that were there from those that it drops; what it would drop is refused here.
        """
        rows: list[Json] = []
        for artifact in artifacts:
            rows.append(artifact_payload(stamp, run, step, task, attempt, artifact))
            if len(artifact.location) > MAX_TEXT:
                raise MetadataError(
                    f"location of artifact {artifact.name!r} has {len(artifact.location)} characters; a service keeps "
                    f"at most {MAX_TEXT}. Use a shorter datastore root"
                )
        path = create_path("artifact", stamp.flow, run, step, task)
        for batch in _batches(rows):
            await self._add(path, batch, "artifacts_created")

    async def _add(self, path: str, rows: Sequence[Json], count: str) -> int | None:
        """Post rows; return how many the service says it created, None if it does not say or has them already."""
        reply = await self._transport.write("POST", path, list(rows), accept_conflict=True)
        if reply.status == HTTPStatus.CONFLICT:
            return None
        try:
            created = as_object(await self._transport.decode(path, reply)).get(count)
        except TypeError as error:
            raise MetadataError(f"{self._transport.base}{path}: {error}; check the URL", where=path) from error
        return created if isinstance(created, int) else None

    async def _numbered(self, kind: Kind, parent: tuple[str, ...], payload: dict[str, Json]) -> str:
        path = create_path(kind, *parent)
        row = await self._transport.decode(path, await self._transport.write("POST", path, payload))
        return parse_row(kind, row, path).id

    async def _named(self, kind: Kind, ids: tuple[str, ...], parent: tuple[str, ...], payload: dict[str, Json]) -> bool:
        """Create an object unless it exists; return whether this did, as far as that can be told."""
        if await self._transport.get_or_none(object_path(*ids)) is not None:
            return False
        path = create_path(kind, *parent)
        reply = await self._transport.write("POST", path, payload, accept_conflict=True)
        if reply.status != HTTPStatus.CONFLICT:
            return True
        if await self._transport.get_or_none(object_path(*ids)) is None:
            raise self._transport.error("POST", path, reply)
        # Somebody was faster; or an earlier try of this request was, whose reply was lost.
        return reply.tries > 1

    async def _below(self, parent: _Parent, create: Callable[[], Awaitable[T]]) -> T:
        remembered = parent.ids in self._known
        await self._ensure(parent)
        try:
            return await create()
        except TaskNotFoundError:
            if not remembered:
                raise
        self._known.pop(parent.ids, None)  # the service has lost it
        await self._ensure(parent)
        return await create()

    async def _ensure(self, parent: _Parent) -> None:
        if parent.ids in self._known:
            return
        await self._parents.run(parent.ids, lambda: self._named(parent.kind, parent.ids, parent.ids, parent.payload))
        self._known[parent.ids] = None
        while len(self._known) > _KNOWN:
            self._known.popitem(last=False)


def _batches(rows: Sequence[Json]) -> list[Sequence[Json]]:
    return [rows[start : start + ROWS_AT_ONCE] for start in range(0, len(rows), ROWS_AT_ONCE)]
