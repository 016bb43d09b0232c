"""The index of an attempt's artifacts, ``N.data.json``: pure.

Follows Metaflow 2.19 ``datastore/task_datastore.py``, version "1.0". What is recorded of an artifact is kept word for
word, fields that are not known here included, so that passing it on loses nothing.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from asyncstore.datastore.serializers import OLD_ENCODING, ArtifactInfo
from asyncstore.errors import IntegrityError, InvalidNameError
from asyncstore.types import Buffer, Json, Key, parse_key

VERSION = "1.0"


@dataclass(slots=True)
class ArtifactIndex:
    """Keys of artifacts by name, and what is recorded of each; in the order of recording."""

    objects: dict[str, Key] = field(default_factory=dict[str, Key])
    info: dict[str, dict[str, Json]] = field(default_factory=dict[str, "dict[str, Json]"])

    def record(self, name: str, key: Key, info: ArtifactInfo) -> None:
        """Add an artifact, or replace it."""
        recorded: dict[str, Json] = {"size": info.size, "type": info.type, "encoding": info.encoding}
        if info.serializer_info:
            recorded["serializer_info"] = dict(info.serializer_info)
        self.objects[name] = key
        self.info[name] = recorded

    def take(self, other: ArtifactIndex, names: Iterable[str]) -> None:
        """Copy the entries of those names that ``other`` has."""
        for name in names:
            if name in other.objects:
                self.objects[name] = other.objects[name]
                self.info[name] = other.info.get(name, {})

    def info_of(self, name: str) -> ArtifactInfo:
        """Return what is recorded of an artifact; defaults for what is not."""
        recorded = self.info.get(name, {})
        size, kind, encoding = recorded.get("size"), recorded.get("type"), recorded.get("encoding")
        extra = recorded.get("serializer_info")
        return ArtifactInfo(
            size if isinstance(size, int) else None,
            kind if isinstance(kind, str) else None,
            encoding if isinstance(encoding, str) else OLD_ENCODING,
            extra if isinstance(extra, dict) else {},
        )

    def copy(self) -> ArtifactIndex:
        return ArtifactIndex(dict(self.objects), dict(self.info))

    @classmethod
    def from_mapping(cls, data: Mapping[str, Any], *, where: str) -> ArtifactIndex:
        """Return the index of a ``{"objects": …, "info": …}`` pair; what is missing is empty.

        Raises `IntegrityError` naming ``where`` if it has another shape.
        """
        objects: object = data.get("objects") or {}
        info: object = data.get("info") or {}
        if not isinstance(objects, dict) or not isinstance(info, dict):
            raise IntegrityError(f"{where} is not an index of artifacts", where=where)
        keys: dict[str, Key] = {}
        for name, key in cast("dict[str, object]", objects).items():
            try:
                keys[name] = parse_key(str(key))
            except InvalidNameError as error:
                raise IntegrityError(f"{where}: artifact {name!r} has no valid key: {key!r}", where=where) from error
        details = cast("dict[str, dict[str, Json]]", info)
        return cls(keys, {name: details[name] for name in details if isinstance(details[name], dict)})  # pyright: ignore[reportUnnecessaryIsInstance]  # it comes from outside

    def to_mapping(self) -> dict[str, Any]:
        """Return the pair that `from_mapping` reads."""
        return {"objects": dict(self.objects), "info": dict(self.info)}


def parse_index(data: Buffer, *, where: str) -> ArtifactIndex:
    """Return the index that a file holds. Raises `IntegrityError` naming ``where``."""
    try:
        document: object = json.loads(bytes(data))
    except ValueError as error:
        raise IntegrityError(f"{where} is not JSON: {error}", where=where) from error
    if not isinstance(document, dict):
        raise IntegrityError(f"{where} is not an index of artifacts", where=where)
    return ArtifactIndex.from_mapping(cast("dict[str, Any]", document), where=where)


def format_index(index: ArtifactIndex, *, ds_type: str, attempt: int) -> bytes:
    """Return the file of an attempt, as Metaflow writes it."""
    document = {
        "datastore": ds_type,
        "version": VERSION,
        "attempt": attempt,
        "python_version": sys.version,
        **index.to_mapping(),
    }
    return json.dumps(document).encode("ascii")
