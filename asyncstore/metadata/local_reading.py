"""Reads records of the local provider. Synchronous; called in threads, in batches."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

from asyncstore.errors import MetadataError
from asyncstore.layout import (
    METADATA_DIRECTORY,
    SELF_RECORD,
    artifact_record_name,
    metadata_directory,
    self_record_path,
    split_artifact_record_name,
    split_datum_record_name,
)
from asyncstore.metadata.attempts import ATTEMPT_DONE_FIELD
from asyncstore.metadata.objects import LEVELS
from asyncstore.metadata.records import Kind, MetaObject
from asyncstore.metadata.rows import parse_json, parse_row
from asyncstore.types import Json


@dataclass(frozen=True, slots=True)
class RecordReader:
    """Reads what is below one root."""

    root: str

    def absolute(self, path: str) -> str:
        """Return the path on disk of a '/'-separated path below the root."""
        return os.path.join(self.root, *path.split("/")) if path else self.root

    def document(self, path: str) -> Json:
        """Return a record's JSON document, or None if there is no such file."""
        where = self.absolute(path)
        try:
            with open(where, "rb") as file:
                content = file.read()
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            document: Json = parse_json(content)
        except ValueError as error:
            raise MetadataError(
                f"{where} is not JSON ({error}); restore the file or remove it", operation="read", where=where
            ) from error
        return document

    def exists(self, *ids: str) -> bool:
        """Say whether a flow, run, step or task has its record."""
        return os.path.exists(self.absolute(self_record_path(*ids)))

    def object(self, ids: tuple[str, ...], run: MetaObject | None = None) -> MetaObject | None:
        """Return a flow, run, step or task, or None. ``run`` gives its tags to steps and tasks."""
        return self._parse(LEVELS[len(ids) - 1], self_record_path(*ids), ids, run)

    def objects(self, paths: Iterable[tuple[str, ...]], run: MetaObject | None = None) -> list[MetaObject]:
        """Return those of several objects that exist."""
        found = (self.object(ids, run) for ids in paths)
        return [item for item in found if item is not None]

    def children(self, *ids: str) -> list[tuple[str, ...]]:
        """Return the paths of what may be objects directly below a flow, run or step; nothing for ids, all flows."""
        try:
            with os.scandir(self.absolute("/".join(ids))) as entries:
                return [
                    (*ids, entry.name)
                    for entry in entries
                    if entry.name != METADATA_DIRECTORY and not entry.name.startswith(".") and entry.is_dir()
                ]
        except (FileNotFoundError, NotADirectoryError):
            return []

    def record_names(self, task: tuple[str, ...]) -> list[str]:
        """Return the names of a task's files, itself, artifacts and metadata, in no order."""
        try:
            names = os.listdir(self.absolute(metadata_directory(*task)))
        except (FileNotFoundError, NotADirectoryError):
            return []
        return [name for name in names if name != SELF_RECORD and not name.startswith(".")]

    def data(self, task: tuple[str, ...], names: Iterable[str]) -> list[MetaObject]:
        """Return the metadata rows in those of the files ``names`` that hold one."""
        return self._rows("metadata", task, (name for name in names if split_datum_record_name(name)), None)

    def artifacts(self, task: tuple[str, ...], attempt: int | None, run: MetaObject | None) -> list[MetaObject]:
        """Return the artifacts of an attempt; None is the latest that is done."""
        names = self.record_names(task)
        if attempt is None:
            attempt = self.latest_attempt(task, names)
        mine = [name for name in names if (split_artifact_record_name(name) or (None,))[0] == attempt]
        return self._rows("artifact", task, mine, run) if attempt is not None else []

    def artifact(self, path: tuple[str, ...], attempt: int | None, run: MetaObject | None) -> MetaObject | None:
        """Return one artifact of an attempt, or None."""
        task = path[:-1]
        if attempt is None:
            attempt = self.latest_attempt(task, self.record_names(task))
        if attempt is None:
            return None
        record = f"{metadata_directory(*task)}/{artifact_record_name(attempt, path[-1])}"
        return self._parse("artifact", record, path, run)

    def latest_attempt(self, task: tuple[str, ...], names: Iterable[str]) -> int | None:
        """Return the attempt that the last ``attempt-done`` file by name tells, or None if no attempt is done."""
        done = [name for name in names if (split_datum_record_name(name) or ("", 0))[0] == ATTEMPT_DONE_FIELD]
        rows = self.data(task, [max(done)]) if done else []
        try:
            return int(str(rows[0].datum.value)) if rows and rows[0].datum else None
        except ValueError:
            raise MetadataError(
                f"{max(done)} of {'/'.join(task)} does not name an attempt", operation="read", where="/".join(task)
            ) from None

    def _rows(
        self, kind: Kind, task: tuple[str, ...], names: Iterable[str], run: MetaObject | None
    ) -> list[MetaObject]:
        directory = metadata_directory(*task)
        found = (self._parse(kind, f"{directory}/{name}", task, run) for name in names)
        return [item for item in found if item is not None]

    def _parse(self, kind: Kind, path: str, ids: tuple[str, ...], run: MetaObject | None) -> MetaObject | None:
        document = self.document(path)
        if document is None:
            return None
        where = self.absolute(path)
        item = parse_row(kind, document, where, run)
        if item.path[: len(ids)] != ids:
            raise MetadataError(
                f"{where} describes {item.pathspec}, not {'/'.join(ids)}; it was moved or copied by hand",
                operation="read",
                where=where,
            )
        return item
