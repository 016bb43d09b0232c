"""One attempt of one task, for reading."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, ItemsView, Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

from asyncstore.datastore.context import FlowContext
from asyncstore.datastore.index import ArtifactIndex
from asyncstore.datastore.loading import Wanted, load_values
from asyncstore.datastore.serializers import ArtifactInfo
from asyncstore.datastore.task_files import TaskFiles
from asyncstore.datastore.values import INCLUDED_FILE_TYPE, IncludedFile
from asyncstore.errors import DataMissingError, TaskStateError
from asyncstore.types import Key, TaskPath

NONE_TYPE = str(type(None))


class ArtifactTooLarge:
    """Stands for a value that `TaskDataStore.to_dict` left out."""

    def __str__(self) -> str:
        return "< artifact too large >"

    __repr__ = __str__


class TaskDataStore(TaskFiles):
    """Artifacts, metadata files and logs of one attempt.

    Made by `FlowDataStore`. What an artifact is called, its key and its size are known without a request; values are
    loaded by key and verified. Nothing of an attempt that is not done is known but its files.
    """

    def __init__(
        self,
        context: FlowContext,
        path: TaskPath,
        attempt: int,
        index: ArtifactIndex | None,
        *,
        prefetched: Mapping[Key, bytes] | None = None,
    ) -> None:
        super().__init__(context, path, attempt)
        self._known_index = index
        self._prefetched = prefetched or {}

    @property
    def is_done(self) -> bool:
        """Whether the attempt was done when it was opened, successfully or not."""
        return self._known_index is not None

    def with_blobs(self, blobs: Mapping[Key, bytes]) -> TaskDataStore:
        """Return this attempt with blobs at hand, which need no request."""
        return TaskDataStore(self._context, self._path, self._attempt, self._known_index, prefetched=blobs)

    # Names, keys and sizes: no request.

    @property
    def index(self) -> ArtifactIndex:
        """Names, keys and records of all artifacts. Raises `TaskStateError` if the attempt is not done."""
        if self._known_index is None:
            raise TaskStateError(
                f"attempt {self._attempt} of {self._directory} is not done: its artifacts are not known yet",
                where=self._directory,
            )
        return self._known_index

    def __contains__(self, name: object) -> bool:
        return name in self.index.objects

    def __iter__(self) -> Iterator[str]:
        return iter(self.index.objects)

    def __len__(self) -> int:
        return len(self.index.objects)

    def items(self) -> ItemsView[str, Key]:
        """Return names and keys."""
        return self.index.objects.items()

    def info(self, name: str) -> ArtifactInfo:
        """Return what is recorded of an artifact. Raises `DataMissingError` for an unknown name."""
        self._key(name)
        return self.index.info_of(name)

    def keys_for_artifacts(self, names: Iterable[str]) -> list[Key | None]:
        """Return the key of each artifact, None for unknown names."""
        return [self.index.objects.get(name) for name in names]

    # Values.

    def load_artifacts(self, names: Iterable[str]) -> AbstractAsyncContextManager[AsyncIterator[tuple[str, Any]]]:
        """Load artifacts and give ``(name, value)`` in the order of completion. One request per distinct key.

        Names that share a key give distinct objects. Raises `DataMissingError` for an unknown name before anything is
        loaded; `UntrustedArtifactError`, `ArtifactError`, `BlobNotFoundError` and `CorruptBlobError` name the
        artifact, and several known at once come as a group.
        """
        wanted: dict[Key, list[tuple[str, ArtifactInfo]]] = {}
        for name in names:
            wanted.setdefault(self._key(name), []).append((name, self.index.info_of(name)))
        return self._load(wanted)

    def _load(self, wanted: Wanted) -> AbstractAsyncContextManager[AsyncIterator[tuple[str, Any]]]:
        where = f"{self._directory}, attempt {self._attempt}"
        return load_values(self._context, wanted, where=where, prefetched=self._prefetched)

    async def fetch_artifacts(self, names: Iterable[str] | None = None) -> dict[str, Any]:
        """Return several artifacts by name, in the order of ``names``; all of them by default."""
        asked = list(self if names is None else names)
        async with self.load_artifacts(dict.fromkeys(asked)) as values:
            found = {name: value async for name, value in values}
        return {name: found[name] for name in asked}

    async def load_artifact(self, name: str) -> Any:
        """Return one artifact. One request; errors as in `load_artifacts`."""
        return (await self.fetch_artifacts([name]))[name]

    async def get(self, name: str, default: Any = None) -> Any:
        """Return an artifact, or ``default`` if there is none of this name.

        Unlike Metaflow's, it does not hide an artifact that is there and cannot be loaded.
        """
        return await self.load_artifact(name) if name in self else default

    async def is_none(self, name: str) -> bool:
        """Say whether an artifact is None, or not there; without a request if its type is recorded."""
        if name not in self.index.objects:
            return True
        kind = self.index.info_of(name).type
        return kind == NONE_TYPE if kind is not None else await self.load_artifact(name) is None

    async def get_artifact_sizes(self, names: Iterable[str]) -> dict[str, int]:
        """Return sizes in bytes: as recorded, before compression; of an included file, that of the file."""
        return {name: await self._size(name) for name in dict.fromkeys(names)}

    async def _size(self, name: str) -> int:
        info = self.info(name)
        if info.type == INCLUDED_FILE_TYPE and self._context.includes is not None:
            included = await self.load_artifact(name)
            if isinstance(included, IncludedFile):
                return await self._context.includes.size(included, name=name)
        return info.size or 0

    async def pathspec_index(self) -> str:
        """Return ``run/step[i,j]``: the indexes of the foreach, then, where recorded, the counts of iterations.

        The text by which the same task of another run is found. Two artifacts are loaded. Raises `DataMissingError`
        for a task without ``_foreach_stack``.
        """
        names = ["_foreach_stack", *(name for name in ("_iteration_stack",) if name in self)]
        stacks = await self.fetch_artifacts(names)
        indexes = ",".join(str(frame.index) for frame in stacks["_foreach_stack"])
        counts = f"[{','.join(map(str, stacks['_iteration_stack']))}]" if len(names) > 1 else ""
        return f"{self.run_id}/{self.step_name}[{indexes}]{counts}"

    async def to_dict(
        self, *, show_private: bool = False, max_value_size: int | None = None, include: Collection[str] | None = None
    ) -> dict[str, Any]:
        """Return artifacts by name, included files as their content.

        Names that begin with '_' are left out unless ``show_private``, all but ``include`` if that is given. With
        ``max_value_size`` in bytes, larger values and those of size 0 or unknown are `ArtifactTooLarge`.
        """
        names = [
            name for name in self if (not include or name in include) and (show_private or not name.startswith("_"))
        ]
        too_large: set[str] = set()
        if max_value_size is not None:
            sizes = await self.get_artifact_sizes(names)
            too_large = {name for name, size in sizes.items() if not 0 < size <= max_value_size}
        values = await self.fetch_artifacts(name for name in names if name not in too_large)
        for name, value in values.items():
            if isinstance(value, IncludedFile) and self._context.includes is not None:
                values[name] = await self._context.includes.load(value, name=name)
        return {name: ArtifactTooLarge() if name in too_large else values[name] for name in names}

    async def format(
        self, *, show_private: bool = False, max_value_size: int | None = None, include: Collection[str] | None = None
    ) -> str:
        """Return one line per artifact, sorted by name; arguments as in `to_dict`."""
        values = await self.to_dict(show_private=show_private, max_value_size=max_value_size, include=include)
        sizes = await self.get_artifact_sizes(values)
        return "\n".join(
            f"*{name}* [size: {sizes[name]} type: {self.info(name).type}] = {values[name]}" for name in sorted(values)
        )

    def _key(self, name: str) -> Key:
        key = self.index.objects.get(name)
        if key is None:
            raise DataMissingError(
                f"attempt {self._attempt} of {self._directory} has no artifact {name!r}", where=self._directory
            )
        return key
