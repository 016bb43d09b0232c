"""One attempt of one task: what it is called, and the files that it has beside its artifacts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from asyncstore.cas.store import ContentAddressedStore
from asyncstore.datastore.context import FlowContext
from asyncstore.datastore.files import file_sizes, from_json, read_files
from asyncstore.datastore.logs import SOURCES
from asyncstore.layout import attempt_name, legacy_log_name, log_name
from asyncstore.types import TaskPath


class TaskFiles:
    """Metadata files and logs of one attempt; the base of `asyncstore.datastore.task.TaskDataStore`."""

    def __init__(self, context: FlowContext, path: TaskPath, attempt: int) -> None:
        self._context = context
        self._path = path
        self._attempt = attempt
        self._directory = context.directory(path)

    @property
    def flow_name(self) -> str:
        return self._context.flow

    @property
    def path(self) -> TaskPath:
        return self._path

    @property
    def run_id(self) -> str:
        return self._path.run

    @property
    def step_name(self) -> str:
        return self._path.step

    @property
    def task_id(self) -> str:
        return self._path.task

    @property
    def attempt(self) -> int:
        return self._attempt

    @property
    def pathspec(self) -> str:
        """``run/step/task``, without the flow, as everywhere in a datastore."""
        return f"{self.run_id}/{self.step_name}/{self.task_id}"

    @property
    def cas(self) -> ContentAddressedStore:
        """The content-addressed store of its flow."""
        return self._context.cas

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._directory!r}, attempt={self._attempt})"

    async def load_metadata(self, names: Iterable[str], *, add_attempt: bool = True) -> dict[str, Any]:
        """Return what JSON files of the task hold, None for those that are not there. One request each.

        ``names`` are without the attempt's number unless ``add_attempt`` is false.
        """
        paths = {name: self._file(attempt_name(self._attempt, name) if add_attempt else name) for name in names}
        found = await read_files(self._context.storage, paths.values())
        return {
            name: None if (data := found[path]) is None else from_json(data, where=path) for name, path in paths.items()
        }

    async def has_metadata(self, name: str, *, add_attempt: bool = True) -> bool:
        """Say whether the task has a file of this name. One request."""
        path = self._file(attempt_name(self._attempt, name) if add_attempt else name)
        return await self._context.storage.head(path) is not None

    async def load_logs(
        self, stream: str, *, sources: Iterable[str] = SOURCES, attempt: int | None = None
    ) -> list[tuple[str, bytes]]:
        """Return ``(source, content)`` for each source of a stream, b"" for what is not there. One request each."""
        paths = {source: self._log(log_name(source, stream), attempt) for source in sources}
        found = await read_files(self._context.storage, paths.values())
        return [(source, found[path] or b"") for source, path in paths.items()]

    async def load_log_legacy(self, stream: str, *, attempt: int | None = None) -> bytes:
        """Return a stream's log of the time before structured lines, b"" if there is none."""
        path = self._log(legacy_log_name(stream), attempt)
        return (await read_files(self._context.storage, [path]))[path] or b""

    async def get_log_size(self, stream: str, *, sources: Iterable[str] = SOURCES) -> int:
        """Return the stored bytes of a stream's logs, headers of lines included. One request per source."""
        sizes = await file_sizes(
            self._context.storage, [self._log(log_name(source, stream), None) for source in sources]
        )
        return sum(size for size in sizes if size is not None)

    async def get_legacy_log_size(self, stream: str) -> int | None:
        """Return the bytes of a legacy log, None if there is none."""
        return (await file_sizes(self._context.storage, [self._log(legacy_log_name(stream), None)]))[0]

    def get_log_location(self, source: str, stream: str) -> str:
        """Return the full address of a log, whether or not it is there."""
        return f"{self._context.storage.root.rstrip('/')}/{self._log(log_name(source, stream), None)}"

    def _log(self, name: str, attempt: int | None) -> str:
        return self._file(attempt_name(self._attempt if attempt is None else attempt, name))

    def _file(self, name: str) -> str:
        return f"{self._directory}/{name}"
