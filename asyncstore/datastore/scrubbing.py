"""One attempt of one task, for removing what its logs should not have said."""

from __future__ import annotations

from collections.abc import Iterable

from asyncstore.datastore.files import file_sizes, write_files
from asyncstore.datastore.logs import SOURCES, redacted
from asyncstore.datastore.task import TaskDataStore
from asyncstore.layout import legacy_log_name, log_name


class ScrubbingTaskDataStore(TaskDataStore):
    """A task opened in mode "d": its logs can be replaced."""

    async def scrub_logs(
        self, stream: str, *, sources: Iterable[str] = SOURCES, attempt: int | None = None
    ) -> list[str]:
        """Overwrite the logs of a stream that are there, legacy ones too, with a note; return their paths."""
        notes = {self._log(log_name(source, stream), attempt): redacted(source, stream) for source in sources}
        # Metaflow names the stream twice in the note of a legacy log.
        notes[self._log(legacy_log_name(stream), attempt)] = redacted(stream, stream)
        sizes = await file_sizes(self._context.storage, list(notes))
        existing = [path for path, size in zip(notes, sizes, strict=True) if size is not None]
        await write_files(self._context.storage, {path: notes[path] for path in existing})
        return existing
