"""What is registered with a metadata provider, and what comes back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from asyncstore.types import Json

Kind: TypeAlias = Literal["flow", "run", "step", "task", "artifact", "metadata"]

ROOT_LOCATION = ":root:"
"""Before a datastore root in an artifact's location: the blob is found there by its key."""


@dataclass(frozen=True, slots=True)
class MetaDatum:
    """One field of a task's metadata; the same field may be registered many times.

    ``value`` is text. Metaflow itself stores a list (``foreach-stack``) and a boolean
    (``auto-emit-argo-events``), so these and numbers are taken too; a service gives them back as text.
    ``tags`` has ``attempt_id:N`` for what belongs to one attempt.
    """

    field: str
    value: Json
    type: str
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DataArtifactRecord:
    """Where one artifact of one attempt is stored.

    ``type`` is the encoding of the stored object (``pickle-v4``), ``sha`` the key of its blob. ``url`` is None
    unless the object lies outside the content-addressed store of ``ds_root``.
    """

    name: str
    ds_type: str
    ds_root: str
    url: str | None
    type: str
    sha: str

    @property
    def location(self) -> str:
        """The location as it is registered: the URL, or ``:root:`` and the datastore root."""
        return ROOT_LOCATION + self.ds_root if self.url is None else self.url

    @classmethod
    def from_location(cls, name: str, ds_type: str, location: str, encoding: str, sha: str) -> DataArtifactRecord:
        """Return the record whose ``location`` this is."""
        if location.startswith(ROOT_LOCATION):
            return cls(name, ds_type, location.removeprefix(ROOT_LOCATION), None, encoding, sha)
        return cls(name, ds_type, "", location, encoding, sha)


@dataclass(frozen=True, slots=True)
class MetaObject:
    """One flow, run, step, task, artifact or metadata row, as a provider shows it.

    ``path`` holds the ids from the flow down: up to the name of an artifact, up to the task of a metadata row.
    ``ts_epoch`` is the creation time in milliseconds since 1970 (UTC). Steps, tasks and artifacts show the tags of
    their run, metadata rows their own. ``heartbeat`` is the last one in whole seconds since 1970, where the
    provider keeps it (runs and tasks of a service). ``artifact`` is there for artifacts, ``datum`` for metadata;
    ``attempt`` for artifacts, and for metadata tagged with one.
    """

    kind: Kind
    path: tuple[str, ...]
    ts_epoch: int
    user_name: str | None = None
    tags: frozenset[str] = frozenset()
    system_tags: frozenset[str] = frozenset()
    attempt: int | None = None
    artifact: DataArtifactRecord | None = None
    datum: MetaDatum | None = None
    heartbeat: int | None = None

    @property
    def id(self) -> str:
        """The last id of the path."""
        return self.path[-1]

    @property
    def pathspec(self) -> str:
        """The ids with '/' between them."""
        return "/".join(self.path)


@dataclass(frozen=True, slots=True)
class BeatReply:
    """What became of a heartbeat.

    ``accepted`` is False when the service has no such object or had a beat less than ten seconds ago, creation
    included; it does not say which. ``wait`` is the pause in seconds that it asks for, or None if heartbeats are
    not kept at all and none need be sent.
    """

    accepted: bool
    wait: float | None
