"""Lets a serializer class that was written for Metaflow serve here."""

from __future__ import annotations

from typing import Any, NamedTuple

from asyncstore.datastore.serializers import ArtifactInfo, Serialized
from asyncstore.types import Buffer


class _Metadata(NamedTuple):
    """Metaflow's SerializationMetadata, field by field."""

    obj_type: str | None
    size: int | None
    encoding: str
    serializer_info: dict[str, Any]


class MetaflowSerializer:
    """Adapt ``cls``, a subclass of Metaflow's ``ArtifactSerializer``: class methods, format "storage", one new blob.

    ``source`` is recorded as the package to install for reading; by default the one that defines the class.
    """

    def __init__(self, cls: Any, *, source: str | None = None) -> None:
        self._cls = cls
        self.type: str = cls.TYPE
        self.priority: int = cls.PRIORITY
        self.source = source or str(cls.__module__).partition(".")[0]

    def can_serialize(self, value: Any) -> bool:
        return bool(self._cls.can_serialize(value))

    def can_deserialize(self, info: ArtifactInfo) -> bool:
        return bool(self._cls.can_deserialize(_metadata(info)))

    def serialize(self, value: Any) -> Serialized:
        blobs, metadata = self._cls.serialize(value, format="storage")
        if len(blobs) != 1 or blobs[0].is_reference:
            # The registry adds the names of the serializer and of the artifact.
            raise ValueError(f"{len(blobs)} blobs or a reference were made; one new blob per artifact is supported")
        return Serialized(blobs[0].value, metadata.encoding, dict(metadata.serializer_info or {}))

    def deserialize(self, data: Buffer, info: ArtifactInfo, *, name: str) -> Any:
        return self._cls.deserialize([bytes(data)], metadata=_metadata(info), format="storage")


def _metadata(info: ArtifactInfo) -> _Metadata:
    return _Metadata(info.type, info.size, info.encoding, dict(info.serializer_info))
