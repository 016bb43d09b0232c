"""The table behind a memory storage: a tree of directories with objects as leaves. Nothing here awaits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from typing import TypeAlias
from uuid import uuid4

from asyncstore.errors import AlreadyExistsError, IntegrityError, StorageError
from asyncstore.layout import RESERVED_DIRECTORY
from asyncstore.storage.attributes import decode_attributes
from asyncstore.types import Attributes, ListEntry, ObjectMeta, WriteMode


@dataclass(frozen=True, slots=True)
class StoredBytes:
    """One object as it lies in memory; replaced as a whole, never changed."""

    data: bytes
    attributes: str | None
    etag: str
    modified: datetime

    def meta(self, path: str) -> ObjectMeta:
        """Return what a storage says of the object; attributes are decoded anew, so that no two callers share them."""
        try:
            attributes: Attributes = {} if self.attributes is None else decode_attributes(self.attributes)
        except IntegrityError as error:
            raise IntegrityError(f"{path}: {error}; write the object again", operation="head", where=path) from error
        return ObjectMeta(len(self.data), self.etag, self.modified, attributes)


_Directory: TypeAlias = "dict[str, _Directory | StoredBytes]"


class Shelf:
    """The objects of one memory storage, and the parts of its open uploads."""

    def __init__(self) -> None:
        self.identity = uuid4().hex
        self.uploads: dict[int, dict[int, bytes]] = {}
        self._root: _Directory = {}
        self._writes = count(1)

    def find(self, path: str) -> StoredBytes | None:
        """Return the object at a path, or None."""
        node = self._node(path)
        return node if isinstance(node, StoredBytes) else None

    def begin_upload(self) -> int:
        """Open an upload without parts and return its number."""
        number = next(self._writes)
        self.uploads[number] = {}
        return number

    def put(self, path: str, data: bytes, attributes: str | None, mode: WriteMode) -> StoredBytes:
        """Put an object in place; raise if the mode or another object's name forbids it."""
        *parents, name = path.split("/")
        directory = self._root
        for depth, parent in enumerate(parents, 1):
            node = directory.setdefault(parent, {})
            if isinstance(node, StoredBytes):
                above = "/".join(parents[:depth])
                raise StorageError(
                    f"{path} cannot be written: {above} is an object, and a path is never both object and directory",
                    operation="put",
                    where=path,
                )
            directory = node
        existing = directory.get(name)
        if isinstance(existing, dict):
            raise StorageError(
                f"{path} cannot be written: it is a directory, and a path is never both object and directory",
                operation="put",
                where=path,
            )
        if existing is not None and mode == "create":
            raise AlreadyExistsError(f"{path} exists already", operation="put", where=path)
        stored = StoredBytes(data, attributes, f'"{next(self._writes)}"', datetime.now(UTC))
        directory[name] = stored
        return stored

    def delete(self, path: str) -> None:
        """Remove an object, and the directories that it leaves empty."""
        if self.find(path) is None:
            return
        *parents, name = path.split("/")
        chain = [self._root]
        for parent in parents:
            node = chain[-1][parent]
            assert isinstance(node, dict)
            chain.append(node)
        del chain[-1][name]
        for parent, directory in zip(reversed(parents), reversed(chain[:-1]), strict=True):
            if directory[parent]:
                break
            del directory[parent]

    def entries(self, prefix: str, *, recursive: bool) -> Iterator[ListEntry]:
        """Give what lies in a directory, or the objects of the whole tree below it."""
        node = self._node(prefix) if prefix else self._root
        if not isinstance(node, dict):
            return
        # A copy, since the caller may write while it iterates.
        for name, child in list(node.items()):
            if name == RESERVED_DIRECTORY:
                continue
            path = f"{prefix}/{name}" if prefix else name
            if isinstance(child, StoredBytes):
                yield ListEntry(path, "object", len(child.data), child.etag, child.modified)
            elif recursive:
                yield from self.entries(path, recursive=True)
            else:
                yield ListEntry(path, "directory")

    def _node(self, path: str) -> _Directory | StoredBytes | None:
        node: _Directory | StoredBytes | None = self._root
        for name in path.split("/"):
            if not isinstance(node, dict):
                return None
            node = node.get(name)
        return node


class Shelves:
    """The shelves of one runtime."""

    def __init__(self) -> None:
        self._by_name: dict[str, Shelf] = {}

    def named(self, name: str) -> Shelf:
        """Return the shelf with this name, a new one at the first call."""
        return self._by_name.setdefault(name, Shelf())

    def identified(self, identity: str) -> Shelf | None:
        """Return the shelf with this identity, or None if it belongs to another runtime."""
        return next((shelf for shelf in self._by_name.values() if shelf.identity == identity), None)
