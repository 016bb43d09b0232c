"""What the task datastores of one flow share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from asyncstore.cas.store import ContentAddressedStore
from asyncstore.datastore.includes import IncludedFiles
from asyncstore.datastore.index import ArtifactIndex
from asyncstore.datastore.registration import TaskRegistrar
from asyncstore.datastore.serializers import SerializerRegistry
from asyncstore.layout import task_path
from asyncstore.runtime import Runtime
from asyncstore.storage.base import DataStoreStorage
from asyncstore.types import TaskPath


class TaskMetadataCache(Protocol):
    """Keeps indexes of attempts near the reader: an attempt that is done never changes.

    A cache that cannot read or write must not fail the caller; it returns None, or does nothing.
    """

    async def load_metadata(self, task: TaskPath, attempt: int) -> ArtifactIndex | None: ...

    async def store_metadata(self, task: TaskPath, attempt: int, index: ArtifactIndex) -> None: ...


@dataclass(frozen=True, slots=True)
class FlowContext:
    """Configuration of one flow's datastore."""

    flow: str
    storage: DataStoreStorage
    cas: ContentAddressedStore
    serializers: SerializerRegistry
    registrar: TaskRegistrar | None = None
    includes: IncludedFiles | None = None
    indexes: TaskMetadataCache | None = None

    @property
    def runtime(self) -> Runtime:
        return self.storage.runtime

    def directory(self, task: TaskPath) -> str:
        return task_path(self.flow, task.run, task.step, task.task)
