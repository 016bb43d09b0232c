"""The manifest: which names of a file tree hold which blobs, as JSON lines.

The first line is ``{"format": "asyncstore-manifest", "version": 1, "prefix": …}``, where ``prefix`` is that of the
content-addressed store. One line follows for each entry: a file (``name``, ``key``, ``size`` in bytes, ``mode`` as
octal text), a directory that is empty (``name``) or a symbolic link (``name``, ``target``), told apart by ``kind``.
The last line is ``{"kind": "end", "entries": n}``: without it a manifest was cut off. Names are relative, with '/'.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, TypeAlias, cast

from asyncstore.errors import ConfigError, InvalidNameError
from asyncstore.types import Key, parse_key

FORMAT = "asyncstore-manifest"
VERSION = 1
PERMISSIONS = 0o777


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A regular file; ``size`` in bytes, ``mode`` its permission bits."""

    KIND: ClassVar[str] = "file"
    name: str
    key: Key
    size: int
    mode: int


@dataclass(frozen=True, slots=True)
class DirectoryEntry:
    """A directory with nothing in it."""

    KIND: ClassVar[str] = "directory"
    name: str


@dataclass(frozen=True, slots=True)
class LinkEntry:
    """A symbolic link; ``target`` stays inside the tree."""

    KIND: ClassVar[str] = "link"
    name: str
    target: str


Entry: TypeAlias = FileEntry | DirectoryEntry | LinkEntry


def header_line(prefix: str) -> str:
    return json.dumps({"format": FORMAT, "version": VERSION, "prefix": prefix})


def entry_line(entry: Entry, **more: Any) -> str:
    """Return an entry's line; a reader ignores what stands in ``more``."""
    fields = asdict(entry)
    if isinstance(entry, FileEntry):
        fields["mode"] = f"{entry.mode:04o}"
    return json.dumps({"kind": entry.KIND, **fields, **more})


def end_line(entries: int) -> str:
    return json.dumps({"kind": "end", "entries": entries})


class ManifestReader:
    """Reads a manifest line by line: ``prefix`` first, then the entries, each of them checked.

    ``where`` is what errors call the manifest. Raises `ConfigError` for what is no manifest, or is cut off, and
    `InvalidNameError` for a name or link that would reach outside the directory it is restored to.
    """

    def __init__(self, lines: Iterable[str], where: str) -> None:
        self.where = where
        self._number = 0
        self._lines = (line for line in lines if line.strip())
        header = self._document()
        if header is None or header.get("format") != FORMAT:
            raise ConfigError(f"{where} is no manifest: it must begin with a line of format {FORMAT!r}", where=where)
        if header.get("version") != VERSION:
            raise ConfigError(
                f"{where} is a manifest of version {header.get('version')!r}, and this asyncstore reads {VERSION}: "
                "use a newer one",
                where=where,
            )
        self.prefix = str(header.get("prefix", ""))

    def entries(self) -> Iterator[Entry]:
        """Give the entries, in their order."""
        read = 0
        while (document := self._document()) is not None:
            if document.get("kind") == "end":
                if document.get("entries") != read:
                    raise self._wrong(f"the end counts {document.get('entries')!r} entries where {read} were read")
                return
            read += 1
            yield self._entry(document)
        raise self._wrong("there is no end line, so the manifest was cut off: run put again")

    def _document(self) -> dict[str, Any] | None:
        line = next(self._lines, None)
        if line is None:
            return None
        self._number += 1
        try:
            document = json.loads(line)
        except (ValueError, RecursionError):
            raise self._wrong("this is not JSON, so it is no manifest, or it was cut off: run put again") from None
        if not isinstance(document, dict):
            raise self._wrong("this is not a JSON object")
        return cast("dict[str, Any]", document)

    def _entry(self, document: dict[str, Any]) -> Entry:
        try:
            name = check_name(str(document["name"]), self.where)
            match document["kind"]:
                case "file":
                    mode = int(document["mode"], 8) & PERMISSIONS
                    return FileEntry(name, parse_key(str(document["key"])), int(document["size"]), mode)
                case "directory":
                    return DirectoryEntry(name)
                case "link":
                    return LinkEntry(name, check_target(name, str(document["target"]), self.where))
                case kind:
                    raise self._wrong(f"kind {kind!r} is not known")
        except InvalidNameError:
            raise
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise self._wrong(f"a field is missing or wrong: {error!r}") from None

    def _wrong(self, reason: str) -> ConfigError:
        return ConfigError(f"{self.where}, line {self._number}: {reason}", where=self.where)


def check_name(name: str, where: str) -> str:
    """Return the name of an entry, or raise `InvalidNameError` if it is not a plain path below some directory."""
    parts = name.split("/")
    foreign = os.sep != "/" and (os.sep in name or os.path.splitdrive(name)[0] != "")
    if not _is_file_name(name) or foreign or not {"", ".", ".."}.isdisjoint(parts):
        raise InvalidNameError(
            f"{where}: {name!r} may not name a restored file: it must be relative, with no '..' or NUL; "
            "do not restore this manifest unless you trust it",
            where=name,
        )
    return name


def _is_file_name(name: str) -> bool:
    try:
        os.fsencode(name)
    except UnicodeEncodeError:  # a surrogate that stands for no byte
        return False
    return name != "" and "\0" not in name


def check_target(name: str, target: str, where: str) -> str:
    """Return the target of a symbolic link, or raise `InvalidNameError` if it leads out of its tree."""
    if not stays_inside(name, target):
        raise InvalidNameError(
            f"{where}: symbolic link {name!r} to {target!r} leads out of its tree; "
            "do not restore this manifest unless you trust it",
            where=name,
        )
    return target


def stays_inside(name: str, target: str) -> bool:
    """Say whether a symbolic link called ``name`` leads to a place inside its own tree.

    Once it went down, a target may not go up again: what it went down through may be a link itself, and ``..`` of
    that is another directory than the text says.
    """
    parts = [part for part in target.split("/") if part != "."]
    ups = next((index for index, part in enumerate(parts) if part != ".."), len(parts))
    return _is_file_name(target) and not target.startswith("/") and ups < name.count("/") and ".." not in parts[ups:]
