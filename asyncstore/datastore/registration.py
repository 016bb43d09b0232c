"""What a finished attempt tells the metadata provider."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from asyncstore.datastore.index import ArtifactIndex
from asyncstore.metadata.records import DataArtifactRecord, MetaDatum
from asyncstore.storage.base import DataStoreStorage
from asyncstore.types import TaskPath

ATTEMPT_DONE_FIELD = "attempt-done"


class TaskRegistrar(Protocol):
    """The two calls of a metadata provider that a task's datastore makes; see `asyncstore.metadata.base`."""

    async def register_data_artifacts(
        self, flow: str, run: str, step: str, task: str, *, attempt: int, artifacts: Iterable[DataArtifactRecord]
    ) -> None: ...

    async def register_metadata(
        self, flow: str, run: str, step: str, task: str, metadata: Iterable[MetaDatum]
    ) -> None: ...


async def register_attempt(
    registrar: TaskRegistrar, flow: str, task: TaskPath, attempt: int, index: ArtifactIndex, storage: DataStoreStorage
) -> None:
    """Register the artifacts of a done attempt, then that it is done. May be repeated.

    In this order, since readers take the latest ``attempt-done`` and then look for its artifacts.
    """
    records = [
        # Metaflow registers the encoding as the type.
        DataArtifactRecord(name, storage.TYPE, storage.root, None, index.info_of(name).encoding, key)
        for name, key in index.objects.items()
    ]
    await registrar.register_data_artifacts(flow, task.run, task.step, task.task, attempt=attempt, artifacts=records)
    done = MetaDatum(ATTEMPT_DONE_FIELD, str(attempt), ATTEMPT_DONE_FIELD, (f"attempt_id:{attempt}",))
    await registrar.register_metadata(flow, task.run, task.step, task.task, [done])
