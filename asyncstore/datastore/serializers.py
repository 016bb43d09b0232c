"""How values become blobs: Metaflow's idea of serializers, and the registry that picks one.

Follows Metaflow 2.19, ``datastore/artifacts/serializer.py``: the first serializer that accepts a value writes it, the
first that accepts what was recorded reads it; a lower priority number comes first, of equals the latest registered.
One blob per artifact; serializers do not compress, the store does.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from asyncstore.datastore import pickling, unpickle
from asyncstore.datastore.trust import Trust, TrustPolicy
from asyncstore.datastore.values import type_text
from asyncstore.errors import ArtifactError, AsyncStoreError, ConfigError, UnpicklableArtifactError
from asyncstore.types import Buffer, Json

OLD_ENCODING = "gzip+pickle-v2"
"""What an index without an encoding means: it is as old as that."""


@dataclass(frozen=True, slots=True)
class ArtifactInfo:
    """What the index of a task records of an artifact.

    ``size`` is that of the serializer's output in bytes, before compression. None and empty stand for what an older
    writer, or a metadata service, did not keep.
    """

    size: int | None = None
    type: str | None = None
    encoding: str = OLD_ENCODING
    serializer_info: Mapping[str, Json] = field(default_factory=dict[str, Json])


@dataclass(frozen=True, slots=True)
class Serialized:
    """One value on its way to the store."""

    data: Buffer
    encoding: str
    serializer_info: Mapping[str, Json] = field(default_factory=dict[str, Json])


class ArtifactSerializer(Protocol):
    """Turns some kind of value into bytes and back; called in the store's threads.

    ``type`` is unique in a registry. ``source`` names the package to install for reading and goes into
    ``serializer_info``. ``encoding`` in what `serialize` returns decides who reads it later: never change its meaning.
    """

    @property
    def type(self) -> str: ...
    @property
    def priority(self) -> int: ...
    @property
    def source(self) -> str: ...

    def can_serialize(self, value: Any) -> bool: ...

    def can_deserialize(self, info: ArtifactInfo) -> bool: ...

    def serialize(self, value: Any) -> Serialized: ...

    def deserialize(self, data: Buffer, info: ArtifactInfo, *, name: str) -> Any:
        """Return the value; ``name`` is the artifact's, for errors."""
        ...


class PickleSerializer:
    """Metaflow's own: writes any value as ``pickle-v4``, reads every pickle that Metaflow ever wrote."""

    type = "pickle"
    priority = 9999
    source = "metaflow"

    def __init__(self, trust: Trust | TrustPolicy = "metaflow") -> None:
        self.trust = TrustPolicy.parse(trust)

    def can_serialize(self, value: Any) -> bool:
        return True

    def can_deserialize(self, info: ArtifactInfo) -> bool:
        # "gzip+" says nothing about the blob; whether that is compressed is known from its attributes alone.
        return info.encoding.removeprefix("gzip+") in {"pickle-v2", "pickle-v4"}

    def serialize(self, value: Any) -> Serialized:
        return Serialized(pickling.dumps(value), "pickle-v4")

    def deserialize(self, data: Buffer, info: ArtifactInfo, *, name: str) -> Any:
        return unpickle.loads(data, trust=self.trust, name=name)


class SerializerRegistry:
    """The serializers of one datastore, in the order in which they are asked; pickle is always the last.

    ``faults`` counts, by serializer type, predicates that raised; such a serializer is passed over with a warning.
    """

    def __init__(
        self, serializers: Iterable[ArtifactSerializer] = (), *, trust: Trust | TrustPolicy = "metaflow"
    ) -> None:
        registered: list[ArtifactSerializer] = [PickleSerializer(trust), *serializers]
        types = [serializer.type for serializer in registered]
        for kind in types:
            if types.count(kind) > 1:
                raise ConfigError(f"two serializers have the type {kind!r}; give each its own")
        registered.reverse()
        self._ordered = tuple(sorted(registered, key=lambda serializer: serializer.priority))
        self.faults: dict[str, int] = {}

    @property
    def ordered(self) -> tuple[ArtifactSerializer, ...]:
        return self._ordered

    def serialize(self, name: str, value: Any) -> tuple[Serialized, ArtifactInfo]:
        """Return the bytes of a value and what to record of it.

        Raises `UnpicklableArtifactError` where Metaflow does (a ``TypeError`` while pickling), else `ArtifactError`.
        """
        serializer = self._first(lambda candidate: candidate.can_serialize(value))
        if serializer is None:
            raise ArtifactError(f"no serializer accepts artifact {name!r}", name=name, operation="save")
        try:
            made = serializer.serialize(value)
        except AsyncStoreError:
            raise
        except Exception as error:  # users' classes raise anything
            pickled = isinstance(serializer, PickleSerializer)
            kind = UnpicklableArtifactError if pickled and isinstance(error, TypeError) else ArtifactError
            raise kind(
                f"artifact {name!r} cannot be saved by serializer {serializer.type!r}: {type(error).__name__}: {error}",
                name=name,
                operation="save",
            ) from error
        extra = {"source": serializer.source, **made.serializer_info}
        return made, ArtifactInfo(memoryview(made.data).nbytes, type_text(value), made.encoding, extra)

    def deserialize(self, name: str, data: Buffer, info: ArtifactInfo) -> Any:
        """Return the value of an artifact.

        Raises `ArtifactError` if no serializer reads its encoding; `UntrustedArtifactError` by the trust policy.
        """
        serializer = self._first(lambda candidate: candidate.can_deserialize(info))
        if serializer is None:
            source = info.serializer_info.get("source")
            hint = f"install {source!r} and pass its serializer" if source else "pass the serializer that wrote it"
            raise ArtifactError(
                f"no serializer reads encoding {info.encoding!r} of artifact {name!r} "
                f"(serializer_info {dict(info.serializer_info)!r}); {hint}",
                name=name,
                operation="load",
            )
        try:
            return serializer.deserialize(data, info, name=name)
        except AsyncStoreError:
            raise
        except Exception as error:  # damaged data and users' serializers raise anything
            raise ArtifactError(
                f"artifact {name!r} cannot be loaded by serializer {serializer.type!r}: "
                f"{type(error).__name__}: {error}",
                name=name,
                operation="load",
            ) from error

    def _first(self, accepts: Callable[[ArtifactSerializer], bool]) -> ArtifactSerializer | None:
        for candidate in self._ordered:
            try:
                if accepts(candidate):
                    return candidate
            except Exception as error:  # noqa: BLE001  # a broken extension must not take the others down
                self.faults[candidate.type] = self.faults.get(candidate.type, 0) + 1
                warnings.warn(
                    f"serializer {candidate.type!r} failed to say whether it applies: {error!r}",
                    RuntimeWarning,
                    stacklevel=3,
                )
        return None
