"""Merges metadata records that another tree sent. Synchronous; called in threads."""

from __future__ import annotations

import os
from collections.abc import Iterable

from asyncstore.errors import MetadataError
from asyncstore.layout import METADATA_DIRECTORY, is_metadata_record, metadata_id_fault
from asyncstore.metadata.local_root import ROOT_NAME
from asyncstore.metadata.local_writing import RecordWriter
from asyncstore.metadata.objects import LEVELS
from asyncstore.metadata.safe_tar import TarMember


class Merging:
    """Writes records below one root and counts them."""

    def __init__(self, writer: RecordWriter) -> None:
        self.written = self.kept = self.ignored = 0
        self._writer = writer

    def add(self, members: Iterable[TarMember]) -> None:
        """Write the records among some files of an archive, where they are newer than those in place."""
        for member in members:
            ids = _ids_of_record(member.name)
            if ids is None:
                self.ignored += 1
                continue
            directory, name = "/".join((*ids, METADATA_DIRECTORY)), member.name.rpartition("/")[2]
            self._refuse_links((*ids, METADATA_DIRECTORY, name))
            if self._is_as_new(f"{directory}/{name}", member.modified):
                self.kept += 1
            else:
                self._writer.replace(directory, name, member.content, modified=member.modified)
                self.written += 1

    def _is_as_new(self, path: str, modified: float) -> bool:
        try:
            return os.stat(self._writer.absolute(path)).st_mtime >= modified
        except FileNotFoundError:
            return False

    def _refuse_links(self, parts: tuple[str, ...]) -> None:
        """A link in place below the root would lead the write elsewhere."""
        for length in range(1, len(parts) + 1):
            path = self._writer.absolute("/".join(parts[:length]))
            if os.path.islink(path):
                raise MetadataError(f"{path} is a symbolic link; metadata is not written through it", where=path)


def _ids_of_record(name: str) -> tuple[str, ...] | None:
    """Return the ids of the object that a member is a record of, or None if it is no record."""
    parts = name.removeprefix("./").split("/")
    ids = tuple(parts[1:-2])
    if parts[0] != ROOT_NAME or parts[-2:-1] != [METADATA_DIRECTORY] or not is_metadata_record(parts[-1]):
        return None
    if not 1 <= len(ids) <= 4 or any(
        metadata_id_fault(level, piece) for level, piece in zip(LEVELS, ids, strict=False)
    ):
        return None
    return ids
