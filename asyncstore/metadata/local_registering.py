"""What the local provider does to the files of one run. Synchronous; called in threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from asyncstore.errors import MetadataError, TaskNotFoundError
from asyncstore.layout import (
    LATEST_RUN,
    SELF_RECORD,
    artifact_record_name,
    datum_record_name,
    join_path,
    latest_run_path,
    metadata_directory,
    self_record_path,
    task_counter_path,
)
from asyncstore.metadata.local_locks import directory_lock
from asyncstore.metadata.local_reading import RecordReader
from asyncstore.metadata.local_writing import NewRecord, RecordWriter, encode
from asyncstore.metadata.payloads import (
    Stamp,
    artifact_payload,
    datum_payload,
    flow_payload,
    run_payload,
    step_payload,
    task_payload,
)
from asyncstore.metadata.records import DataArtifactRecord, MetaDatum
from asyncstore.metadata.rows import as_object, as_texts, parse_row
from asyncstore.metadata.tags import check_set_size, mutate
from asyncstore.types import Json

COUNTER_FORMAT: Final = "asyncstore-task-counter"
COUNTER_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Registrar:
    """Creates and changes records below one root.

    A ``partial`` tree holds rows of tasks that are registered elsewhere (see `asyncstore.metadata.sync`), so there a
    missing parent is no error.
    """

    writer: RecordWriter
    reader: RecordReader
    partial: bool

    def new_run(self, stamp: Stamp, clock: Callable[[], int]) -> str:
        """Create a run numbered by the time in microseconds; ``clock`` is in nanoseconds."""
        self._self_record(flow_payload(stamp), stamp.flow)
        number = clock() // 1000
        while not self.writer.claim_directory(join_path(stamp.flow, str(number))):
            number += 1
        run = str(number)
        self._self_record(run_payload(stamp, run), stamp.flow, run)
        return run

    def named_run(self, stamp: Stamp, run: str) -> bool:
        """Create a run with this name; return False if it is there."""
        self._self_record(flow_payload(stamp), stamp.flow)
        return self._self_record(run_payload(stamp, run), stamp.flow, run)

    def new_task(self, stamp: Stamp, run: str, step: str, metadata: Sequence[MetaDatum]) -> str:
        """Create the next task of a step. Raises `LockBusyError` if another process is numbering one."""
        self._require(stamp.flow, run)
        self._self_record(step_payload(stamp, run, step), stamp.flow, run, step)
        directory = self.writer.make_directory(metadata_directory(stamp.flow, run))
        with directory_lock(directory):
            task = self._next_task(stamp.flow, run, step)
        self._self_record(task_payload(stamp, run, step, task), stamp.flow, run, step, task)
        self.add_metadata(stamp, run, step, task, metadata)
        return task

    def named_task(self, stamp: Stamp, run: str, step: str, task: str, metadata: Sequence[MetaDatum]) -> bool:
        """Create a task with this name; return False if it is there."""
        self._require(stamp.flow, run)
        self._self_record(step_payload(stamp, run, step), stamp.flow, run, step)
        created = self._self_record(task_payload(stamp, run, step, task), stamp.flow, run, step, task)
        self.add_metadata(stamp, run, step, task, metadata)
        return created

    def add_metadata(self, stamp: Stamp, run: str, step: str, task: str, metadata: Iterable[MetaDatum]) -> None:
        """Add rows to a task, one file each; a file name that is taken moves on by a millisecond."""
        self._require(stamp.flow, run, step, task)
        records = [
            NewRecord(encode(datum_payload(stamp, run, step, task, datum)), _datum_name(datum.field, stamp.ts_epoch))
            for datum in metadata
        ]
        self.writer.create(metadata_directory(stamp.flow, run, step, task), records)

    def add_artifacts(
        self, stamp: Stamp, run: str, step: str, task: str, attempt: int, artifacts: Iterable[DataArtifactRecord]
    ) -> None:
        """Record artifacts, one file each; files that are there stay."""
        self._require(stamp.flow, run, step, task)
        records = [
            NewRecord(
                encode(artifact_payload(stamp, run, step, task, attempt, artifact)),
                _fixed(artifact_record_name(attempt, artifact.name)),
            )
            for artifact in artifacts
        ]
        self.writer.create(metadata_directory(stamp.flow, run, step, task), records)

    def mutate_tags(self, flow: str, run: str, add: Sequence[str], remove: Sequence[str]) -> frozenset[str]:
        """Change a run's user tags and nothing else. Raises `LockBusyError` if another process is at it."""
        self._require(flow, run, always=True)
        with directory_lock(self.writer.absolute(metadata_directory(flow, run))):
            path = self_record_path(flow, run)
            document = self.reader.document(path)
            current = parse_row("run", document, self.reader.absolute(path))
            before = as_texts(as_object(document).get("tags"))
            after = mutate(before, current.system_tags, add, remove)
            if frozenset(after) != current.tags:
                check_set_size(frozenset(after), current.tags)
                changed: dict[str, Json] = {**as_object(document), "tags": list(after)}
                self.writer.replace(metadata_directory(flow, run), SELF_RECORD, encode(changed))
        return frozenset(after)

    def write_latest_run(self, flow: str, run: str) -> None:
        """Note the run that Metaflow's command line takes by default."""
        self._require(flow, run)
        self.writer.replace(flow, LATEST_RUN, run.encode())

    def read_latest_run(self, flow: str) -> str | None:
        """Return that run, or None."""
        try:
            with open(self.reader.absolute(latest_run_path(flow)), encoding="utf-8") as file:
                return file.read().strip() or None
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _self_record(self, payload: dict[str, Json], *ids: str) -> bool:
        if self.reader.exists(*ids):
            return False
        [created] = self.writer.create(metadata_directory(*ids), [NewRecord(encode(payload), _fixed(SELF_RECORD))])
        return created

    def _require(self, *ids: str, always: bool = False) -> None:
        if (not self.partial or always) and not self.reader.exists(*ids):
            kind = ("flow", "run", "step", "task")[len(ids) - 1]
            raise TaskNotFoundError(
                f"{kind} {'/'.join(ids)} is not registered below {self.reader.root}; register it first",
                operation="register",
                where="/".join(ids),
            )

    def _next_task(self, flow: str, run: str, step: str) -> str:
        path = task_counter_path(flow, run)
        counter = self.reader.document(path)
        number = self._count_tasks(flow, run) if counter is None else _read_counter(counter, self.reader.absolute(path))
        # Taken if Metaflow, which knows nothing of the counter, numbered a task of this step in the meantime.
        while not self.writer.claim_directory(join_path(flow, run, step, str(number))):
            number += 1
        directory, _, name = path.rpartition("/")
        document: dict[str, Json] = {"format": COUNTER_FORMAT, "version": COUNTER_VERSION, "next": number + 1}
        self.writer.replace(directory, name, encode(document))
        return str(number)

    def _count_tasks(self, flow: str, run: str) -> int:
        numbers = [
            int(task[-1])
            for step in self.reader.children(flow, run)
            for task in self.reader.children(*step)
            if task[-1].isdecimal()
        ]
        return max(numbers, default=-1) + 1


def _read_counter(document: Json, where: str) -> int:
    try:
        fields = as_object(document)
        name, version, number = fields["format"], fields["version"], int(fields["next"])
    except (KeyError, TypeError, ValueError, OverflowError):
        name, version, number = None, None, 0
    if name != COUNTER_FORMAT:
        raise MetadataError(f"{where} is not a task counter; remove it and tasks are counted anew", where=where)
    if version != COUNTER_VERSION:
        raise MetadataError(
            f"{where} has version {version!r}, this asyncstore knows {COUNTER_VERSION}; upgrade it", where=where
        )
    return number


def _fixed(name: str) -> Callable[[int], str | None]:
    return lambda attempt: None if attempt else name


def _datum_name(field: str, milliseconds: int) -> Callable[[int], str | None]:
    return lambda attempt: datum_record_name(field, milliseconds + attempt)
