"""A model of a disk that loses what was not synced, fed with the calls that a storage really made.

What POSIX leaves open is assumed to go wrong: a file's bytes last only after fsync of the file (else they are lost,
torn or there), a change of a name only after fsync of its directory (else each may have happened or not).
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from asyncstore.storage.local_os import OsCalls

Bytes = Literal["lost", "torn", "whole"]
Tree = tuple[tuple[str, bytes | None], ...]


@dataclass
class File:
    data: bytearray = field(default_factory=bytearray)
    synced: bytes | None = None

    def after_crash(self, unsynced: Bytes) -> bytes:
        if self.synced is not None and bytes(self.data) == self.synced:
            return self.synced
        return {"lost": b"", "torn": bytes(self.data[: len(self.data) // 2]), "whole": bytes(self.data)}[unsynced]


@dataclass(frozen=True)
class Change:
    """One name that now leads to a node, or to nothing."""

    call: int
    directory: int
    name: str
    node: int | None


@dataclass
class Disk:
    """Nodes by number; 1 is the directory that all is below, which is on the disk."""

    files: dict[int, File] = field(default_factory=dict[int, File])
    now: dict[int, dict[str, int]] = field(default_factory=lambda: {1: {}})
    durable: dict[int, dict[str, int]] = field(default_factory=lambda: {1: {}})
    pending: list[Change] = field(default_factory=list[Change])

    def change(self, call: int, directory: int, name: str, node: int | None) -> None:
        if node is None:
            del self.now[directory][name]
        else:
            self.now[directory][name] = node
        self.pending.append(Change(call, directory, name, node))

    def sync(self, node: int) -> None:
        if node in self.files:
            self.files[node].synced = bytes(self.files[node].data)
        else:
            self._settle([change for change in self.pending if change.directory == node])

    def sync_all(self) -> None:
        for node in self.files:
            self.sync(node)
        self._settle(list(self.pending))

    def _settle(self, changes: list[Change]) -> None:
        for change in changes:
            apply(self.durable, change)
            self.pending.remove(change)

    def crashes(self) -> Iterator[Tree]:
        """Give each tree that may be found after a crash at this point: all unsynced names lost, all kept, each kept
        alone, each lost alone; with each fate of unsynced bytes."""
        calls = sorted({change.call for change in self.pending})
        kept: list[set[int]] = [set(), set(calls)]
        kept += [{call} for call in calls]
        kept += [set(calls) - {call} for call in calls]
        fates: list[Bytes] = ["lost", "torn", "whole"]
        for keep in kept:
            entries = copy.deepcopy(self.durable)
            for change in self.pending:
                if change.call in keep:
                    apply(entries, change)
            for fate in fates:
                yield self._tree(entries, fate)

    def process_death(self) -> Tree:
        return self._tree(self.now, "whole")

    def _tree(self, entries: dict[int, dict[str, int]], fate: Bytes, node: int = 1, path: str = "") -> Tree:
        found: list[tuple[str, bytes | None]] = []
        for name, child in sorted(entries.get(node, {}).items()):
            where = f"{path}/{name}" if path else name
            if child in self.files:
                found.append((where, self.files[child].after_crash(fate)))
            else:
                found.append((where, None))
                found += self._tree(entries, fate, child, where)
        return tuple(found)


def apply(entries: dict[int, dict[str, int]], change: Change) -> None:
    names = entries.setdefault(change.directory, {})
    if change.node is None:
        names.pop(change.name, None)
    else:
        names[change.name] = change.node


def build(tree: Tree, root: str) -> None:
    """Make a tree of the model a tree of files."""
    os.mkdir(root)
    for path, data in tree:
        where = os.path.join(root, path)
        if data is None:
            os.mkdir(where)
        else:
            with open(where, "wb") as file:
                file.write(data)


class RecordingCalls(OsCalls):
    """Makes each call, follows it in a model, and keeps a copy of the model after each call with an effect."""

    def __init__(self, base: str, disk: Disk | None = None) -> None:
        super().__init__()
        self.disk = disk or Disk()
        self.snapshots = [copy.deepcopy(self.disk)]
        self._base = base
        self._nodes: dict[int, int] = {}
        self._next = 2 + max([*self.disk.files, *self.disk.now])
        self._calls = 0

    def _effect(self) -> None:
        self.snapshots.append(copy.deepcopy(self.disk))

    def _number(self) -> int:
        self._calls += 1
        return self._calls

    def _new(self) -> int:
        self._next += 1
        return self._next

    def _find(self, path: str) -> int | None:
        node = 1
        for name in os.path.relpath(path, self._base).split(os.sep):
            if name == "..":
                return None
            if name != ".":
                node = self.disk.now[node][name]
        return node

    def _parent(self, name: str, dir_fd: int | None) -> tuple[int, str]:
        if dir_fd is not None:
            return self._nodes[dir_fd], name
        parent = self._find(os.path.dirname(name))
        assert parent is not None
        return parent, os.path.basename(name)

    def open_directory(self, name: str, dir_fd: int | None, *, follow: bool) -> int:
        fd = super().open_directory(name, dir_fd, follow=follow)
        node = self._find(name) if dir_fd is None else self.disk.now[self._nodes[dir_fd]][name]
        self._nodes[fd] = -1 if node is None else node
        return fd

    def mkdir(self, name: str, dir_fd: int | None) -> None:
        super().mkdir(name, dir_fd)
        parent, name = self._parent(name, dir_fd)
        node = self._new()
        self.disk.now[node] = {}
        self.disk.change(self._number(), parent, name, node)
        self._effect()

    def rmdir(self, name: str, dir_fd: int) -> None:
        super().rmdir(name, dir_fd)
        self.disk.change(self._number(), self._nodes[dir_fd], name, None)
        self._effect()

    def unlink(self, name: str, dir_fd: int) -> None:
        super().unlink(name, dir_fd)
        self.disk.change(self._number(), self._nodes[dir_fd], name, None)
        self._effect()

    def link(self, source: str, source_fd: int, name: str, dir_fd: int) -> None:
        super().link(source, source_fd, name, dir_fd)
        node = self.disk.now[self._nodes[source_fd]][source]
        self.disk.change(self._number(), self._nodes[dir_fd], name, node)
        self._effect()

    def rename(self, source: str, source_fd: int, name: str, dir_fd: int) -> None:
        super().rename(source, source_fd, name, dir_fd)
        node = self.disk.now[self._nodes[source_fd]][source]
        if self.disk.now[self._nodes[dir_fd]].get(name) == node:
            return  # two links of one file: nothing happens
        number = self._number()
        self.disk.change(number, self._nodes[dir_fd], name, node)
        self.disk.change(number, self._nodes[source_fd], source, None)
        self._effect()

    def create(self, name: str, dir_fd: int, mode: int) -> int:
        fd = super().create(name, dir_fd, mode)
        node = self._new()
        self.disk.files[node] = File()
        self._nodes[fd] = node
        self.disk.change(self._number(), self._nodes[dir_fd], name, node)
        self._effect()
        return fd

    def open_file(self, name: str, dir_fd: int | None, *, follow: bool) -> int:
        assert dir_fd is not None, "bodies are opened by their whole path only where nothing is written"
        fd = super().open_file(name, dir_fd, follow=follow)
        self._nodes[fd] = self.disk.now[self._nodes[dir_fd]][name]
        return fd

    def write(self, fd: int, data: bytes | bytearray | memoryview) -> int:
        offset = os.lseek(fd, 0, os.SEEK_CUR)
        written = super().write(fd, data)
        self._wrote(fd, bytes(data)[:written], offset)
        return written

    def pwrite(self, fd: int, data: bytes | bytearray | memoryview, offset: int) -> int:
        written = super().pwrite(fd, data, offset)
        self._wrote(fd, bytes(data)[:written], offset)
        return written

    def copy(self, source_fd: int, fd: int, size: int, offset: int) -> int:
        copied = super().copy(source_fd, fd, size, offset)
        self._wrote(fd, os.pread(fd, copied, offset), offset)
        return copied

    def _wrote(self, fd: int, data: bytes, offset: int) -> None:
        content = self.disk.files[self._nodes[fd]].data
        content.extend(bytes(max(0, offset - len(content))))
        content[offset : offset + len(data)] = data
        self._effect()

    def truncate(self, fd: int, size: int) -> None:
        super().truncate(fd, size)
        content = self.disk.files[self._nodes[fd]].data
        del content[size:]
        content.extend(bytes(size - len(content)))
        self._effect()

    def fsync(self, fd: int) -> None:
        # Neither is made: the model answers, and this machine's disk is slow.
        if self._nodes[fd] >= 0:
            self.disk.sync(self._nodes[fd])
            self._effect()

    def syncfs(self, fd: int) -> None:
        self.disk.sync_all()
        self._effect()

    def close(self, fd: int) -> None:
        self._nodes.pop(fd, None)
        super().close(fd)
