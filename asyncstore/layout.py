"""Spells every stored name, in both directions; nothing else does.

Follows Metaflow 2.19: ``datastore/content_addressed_store.py``, ``datastore/task_datastore.py``,
``datastore/datastore_storage.py``, ``plugins/datastores/local_storage.py`` and
``plugins/metadata_providers/local.py``.
"""

from __future__ import annotations

import re

from asyncstore.errors import InvalidNameError, InvalidPathspecError
from asyncstore.types import Key, parse_key

MAX_COMPONENT_BYTES = 250
RESERVED_DIRECTORY = ".asyncstore"
TEMPORARY_DIRECTORY = f"{RESERVED_DIRECTORY}/tmp"  # noqa: S108  # below the datastore root
LOCKS_DIRECTORY = RESERVED_DIRECTORY + "/locks"
METADATA_DIRECTORY = "_meta"
SIDECAR_SUFFIX = "_meta"
BLOB_DIRECTORY = "data"
OLD_BLOB_PREFIX = "r_"


# What almost all paths look like; the rules below would let each of these pass.
_PLAIN_PATH = re.compile(r"(?:[0-9A-Za-z][0-9A-Za-z_-]{0,249}/)*[0-9A-Za-z][0-9A-Za-z_-]{0,249}").fullmatch


def join_path(*parts: str) -> str:
    """Join path pieces with one '/' between them, leaving out empty pieces."""
    return "/".join(piece for piece in (part.strip("/") for part in parts) if piece)


def check_path(path: str) -> str:
    """Return ``path`` if it may name an object, or raise `InvalidNameError`.

    Components are not empty, at most 250 bytes of UTF-8 (255 on common file systems, less room for a sidecar's
    suffix), not '.' or '..', without NUL or backslash (a separator on Windows), and neither ``_meta`` nor
    ``.asyncstore``; the last one does not end in ``_meta``, or it would be taken for a sidecar. No drive letter.
    """
    if _PLAIN_PATH(path) is None:
        check_directory(path)
    if path == "":
        raise InvalidNameError("an object needs a path; '' is the root", where=path)
    if path.endswith(SIDECAR_SUFFIX):
        raise InvalidNameError(f"object path {path!r} ends in '_meta', which is kept for sidecars", where=path)
    return path


def check_directory(path: str) -> str:
    """Return ``path`` if it may name a directory ("" is the root), or raise `InvalidNameError`."""
    if path == "":
        return path
    for component in path.split("/"):
        reason = _component_fault(component)
        if reason:
            raise InvalidNameError(f"object path {path!r}: {reason}", where=path)
    if len(path) > 1 and path[1] == ":" and path[0].isalpha():
        raise InvalidNameError(f"object path {path!r} begins with a drive letter", where=path)
    return path


def _component_fault(component: str) -> str | None:
    if component == "":
        return "a component is empty (no leading, trailing or double '/')"
    if component in {".", ".."}:
        return f"component {component!r} is not allowed"
    if component in {METADATA_DIRECTORY, RESERVED_DIRECTORY}:
        return f"component {component!r} is reserved"
    if "\0" in component or "\\" in component:
        return "NUL and backslash are not allowed"
    try:
        size = len(component) if component.isascii() else len(component.encode())
    except UnicodeEncodeError:
        return "a component is not valid Unicode"
    if size > MAX_COMPONENT_BYTES:
        return f"a component has {size} bytes; at most {MAX_COMPONENT_BYTES} are allowed"
    return None


def sidecar_path(path: str) -> str:
    """Return the path of the file that holds a local object's attributes."""
    return path + SIDECAR_SUFFIX


def is_hidden(name: str, *, directory: bool = False) -> bool:
    """Say whether an entry of a local directory is left out of listings.

    Files: sidecars. Directories: metadata and what is reserved; one that merely ends in ``_meta`` may hold objects.
    """
    return name in {METADATA_DIRECTORY, RESERVED_DIRECTORY} or (not directory and name.endswith(SIDECAR_SUFFIX))


def blob_prefix(flow: str) -> str:
    """Return the prefix of a flow's content-addressed store."""
    return f"{flow}/{BLOB_DIRECTORY}"


def flow_of_blob_prefix(prefix: str) -> str | None:
    """Return the flow whose content-addressed store has this prefix, or None if it is no flow's."""
    flow, slash, directory = prefix.partition("/")
    return flow if slash and directory == BLOB_DIRECTORY else None


def blob_path(prefix: str, key: Key) -> str:
    """Return the path of a blob: ``<prefix>/<first two digits>/<key>``."""
    return f"{prefix}/{key[:2]}/{key}" if prefix else f"{key[:2]}/{key}"


def old_raw_blob_path(prefix: str, key: Key) -> str:
    """Return the path at which very old datastores kept a raw blob."""
    return join_path(prefix, key[:2], OLD_BLOB_PREFIX + key)


def split_blob_path(path: str) -> tuple[str, Key] | None:
    """Return prefix and key of a blob's path, or None if it is not one.

    Old datastores put ``r_`` in front of a raw blob's key; such a path is a blob's too.
    """
    directory, _, name = path.rpartition("/")
    prefix, _, shard = directory.rpartition("/")
    try:
        key = parse_key(name.removeprefix(OLD_BLOB_PREFIX))
    except InvalidNameError:
        return None
    return (prefix, key) if shard == key[:2] else None


SELF_RECORD = "_self.json"
LATEST_RUN = "latest_run"
_DATUM_RECORD = re.compile(r"sysmeta_(.+)_(\d+)\.json", re.DOTALL)
_ARTIFACT_RECORD = re.compile(r"(\d+)_artifact_(.+)\.json", re.DOTALL)


def metadata_id_fault(level: str, identifier: object) -> str | None:
    """Say why ``identifier`` cannot name a flow, run, step, task or artifact (``level``), or return None.

    Whatever a provider, an id must do as a directory beside what else lies there: a flow's blobs, its ``latest_run``.
    """
    if not isinstance(identifier, str):
        return f"it is {type(identifier).__name__}, not a string"
    if "/" in identifier:
        return "'/' is not allowed"
    if level == "run" and identifier in {BLOB_DIRECTORY, LATEST_RUN}:
        return "the name is taken by the datastore"
    return _component_fault(identifier) or ("it is blank" if not identifier.strip() else None)


def metadata_directory(*ids: str) -> str:
    """Return the directory with the metadata of a flow, run, step or task; ``ids`` from the flow down."""
    return join_path(*ids, METADATA_DIRECTORY)


def self_record_path(*ids: str) -> str:
    """Return the path of the record of a flow, run, step or task itself."""
    return f"{metadata_directory(*ids)}/{SELF_RECORD}"


def latest_run_path(flow: str) -> str:
    """Return the path of the file with the id of a flow's latest run."""
    return f"{flow}/{LATEST_RUN}"


def task_counter_path(flow: str, run: str) -> str:
    """Return the path of the file that tells the next task number of a run."""
    return f"{RESERVED_DIRECTORY}/tasks/{flow}/{run}.json"


def datum_record_name(field: str, milliseconds: int) -> str:
    """Return the name of the file with one metadata row."""
    return f"sysmeta_{field}_{milliseconds}.json"


def split_datum_record_name(name: str) -> tuple[str, int] | None:
    """Return the field and the milliseconds in a metadata row's file name, or None if it is not one."""
    match = _DATUM_RECORD.fullmatch(name)
    return (match[1], int(match[2])) if match else None


def artifact_record_name(attempt: int, name: str) -> str:
    """Return the name of the file with the record of one artifact of one attempt."""
    return f"{attempt}_artifact_{name}.json"


def split_artifact_record_name(name: str) -> tuple[int, str] | None:
    """Return the attempt and the artifact's name in a record's file name, or None if it is not one."""
    match = _ARTIFACT_RECORD.fullmatch(name)
    return (int(match[1]), match[2]) if match else None


MAX_ATTEMPTS = 6
"""Attempts are numbered from 0 to 5; a constant of Metaflow's, not an option."""

ATTEMPT_STARTED = "attempt.json"
ATTEMPT_INDEX = "data.json"
ATTEMPT_DONE = "DONE.lock"
TASK_BEGIN = "task_begin"
TASK_END = "task_end"


def run_path(flow: str, run: str) -> str:
    """Return the directory of a run."""
    return "/".join((check_id(flow, "flow"), check_id(run, "run")))


def step_path(flow: str, run: str, step: str) -> str:
    """Return the directory of a step of a run."""
    return f"{run_path(flow, run)}/{check_id(step, 'step')}"


def task_path(flow: str, run: str, step: str, task: str) -> str:
    """Return the directory of a task, which holds the files of all its attempts."""
    return f"{step_path(flow, run, step)}/{check_id(task, 'task')}"


def attempt_name(attempt: int, name: str) -> str:
    """Return the name of a file that belongs to one attempt: ``<attempt>.<name>``."""
    return f"{attempt}.{name}"


def split_attempt_name(name: str) -> tuple[int, str] | None:
    """Return attempt and name of a task's file, or None if it belongs to no attempt. Splits at the first dot."""
    number, dot, rest = name.partition(".")
    if not (dot and rest and number.isascii() and number.isdecimal()) or (len(number) > 1 and number[0] == "0"):
        return None
    return int(number), rest


def log_name(source: str, stream: str) -> str:
    """Return the name, without the attempt, of one source's log of one stream."""
    return f"{source}_{stream}.log"


def legacy_log_name(stream: str) -> str:
    """Return the name, without the attempt, of a log of the time before structured lines."""
    return f"{stream}.log"


def split_task_pathspec(pathspec: str) -> tuple[str, str, str, int | None]:
    """Return run, step, task and attempt (None if not given) of ``run/step/task`` or ``run/step/task/attempt``."""
    ids = pathspec.split("/")
    attempt = ids.pop() if len(ids) == 4 else None
    if len(ids) != 3 or not all(ids) or not (attempt is None or attempt.isdecimal()):
        raise InvalidPathspecError(
            f"{pathspec!r} is not a task of a flow: expected run/step/task or run/step/task/attempt", where=pathspec
        )
    run, step, task = ids
    return run, step, task, None if attempt is None else int(attempt)


def check_id(text: str, kind: str) -> str:
    """Return the id of a flow, run, step or task (``kind`` says which) if it may be one, or raise.

    `InvalidPathspecError` for an empty one or one with a '/', `InvalidNameError` for what no path may contain.
    """
    if "/" in text or not text:
        raise InvalidPathspecError(f"{kind} {text!r}: an id is not empty and has no '/'", where=text)
    return check_directory(text)


def is_metadata_record(name: str) -> bool:
    """Say whether a file in a ``_meta`` directory is a record, and not a temporary file or a lock."""
    return name == SELF_RECORD or bool(split_datum_record_name(name) or split_artifact_record_name(name))
