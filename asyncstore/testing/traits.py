"""What each server can do of what the contract asks: the one table that the suites consult.

A case that meets a lack checks what can still be promised; none is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

Lack: TypeAlias = Literal[
    "atomic create",  # of concurrent creates, one wins
    "atomic create by parts",  # the same where an upload is completed
    "exact deletes",  # a delete of what is no object touches nothing else, also where it is a directory or lies below
    "etag by parts",  # the etag that completing an upload answers is the object's
    "hidden uploads",  # an upload's directory does not appear before the upload is complete
    "large attributes",  # 2000 bytes of attributes
    "sure listings",  # what is listed can be read
    "whole reads",  # a body is of one object, also while that is replaced
    "replaceable parts",  # a part may be sent again with other bytes
    "exclusive names",  # a path is never both object and directory
    "shared by pickle",  # a handle that went through a pickle sees the same objects
    "visible leftovers",  # the raw hooks see open uploads and temporary objects
]

Ability: TypeAlias = Literal["batch", "bare reads", "copy", "open uploads"]


@dataclass(frozen=True, slots=True)
class Traits:
    """One server's row. ``lacks`` gives the reason for each lack; the counts suit the server's pace."""

    name: str
    lacks: Mapping[Lack, str] = field(default_factory=lambda: MappingProxyType[Lack, str]({}))
    abilities: frozenset[Ability] = frozenset()
    listed: int = 1100
    """Objects in a long listing: more than any server sends in one reply."""
    rounds: int = 20
    """Rounds of a race; one proves nothing."""
    race_bytes: int = 200_000
    sweep: int = 24
    """Points in time at which each call is cancelled."""

    def can(self, trait: Lack) -> bool:
        """Say whether the server does what the contract asks."""
        return trait not in self.lacks


_FLAT = "the names are flat: 'a' and 'a/b' are two objects that know nothing of each other"

MEMORY: Final = Traits(
    "memory",
    lacks={"shared by pickle": "the objects belong to the runtime, which pickles as its limits"},
    abilities=frozenset({"batch", "copy"}),
)
LOCAL: Final = Traits("local", abilities=frozenset({"batch", "bare reads", "copy"}))
MOTO: Final = Traits(
    "moto",
    lacks={
        "exclusive names": _FLAT,
        "atomic create by parts": "moto 5.2 asks and completes in two steps, between which another one completes",
    },
    abilities=frozenset({"copy", "open uploads"}),
    listed=1001,
    sweep=12,
)
RCLONE: Final = Traits(
    "rclone",
    lacks={
        "exclusive names": _FLAT,
        "atomic create": "rclone serve s3 1.75 ignores If-None-Match and overwrites",
        "atomic create by parts": "rclone serve s3 1.75 ignores If-None-Match on CompleteMultipartUpload too",
        "exact deletes": "rclone keeps files: 'a/b' deletes the object 'a', and a directory is an internal error",
        "etag by parts": "rclone answers S3's etag of parts to a complete, and the MD5 of the whole to all else",
        "hidden uploads": "rclone streams the parts into a file, whose directory is listed",
        "large attributes": "rclone counts other headers too into the 2048 bytes of metadata",
        "sure listings": "rclone lists a put from its first byte on, and for a moment after it was broken off",
        "whole reads": "rclone answers with the length of the old object and sends the bytes of the new one",
        "replaceable parts": "rclone has streamed the first part on when the second one comes",
    },
    abilities=frozenset({"copy", "open uploads"}),
)
AZURITE: Final = Traits("azurite", lacks={"exclusive names": _FLAT}, abilities=frozenset({"copy"}), sweep=12)
FAKE_GCS: Final = Traits(
    "fake-gcs",
    lacks={
        "exclusive names": _FLAT,
        "atomic create by parts": "fake-gcs-server ignores ifGenerationMatch=0 in compose",
    },
    abilities=frozenset({"copy"}),
)
