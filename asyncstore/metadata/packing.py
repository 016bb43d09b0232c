"""Packs the metadata records of one run into a tar.gz. Synchronous; called in threads."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from collections.abc import Iterable
from typing import Final

from asyncstore.errors import MetadataError
from asyncstore.layout import METADATA_DIRECTORY, is_metadata_record, metadata_directory
from asyncstore.metadata.local_root import ROOT_NAME

_LEVEL: Final = 1  # the records are small; speed counts


class Packing:
    """A tar.gz in memory that grows."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._buffer = io.BytesIO()
        self._gzip = gzip.GzipFile(fileobj=self._buffer, mode="wb", compresslevel=_LEVEL, mtime=0)
        self._tar = tarfile.open(fileobj=self._gzip, mode="w|", format=tarfile.PAX_FORMAT)  # noqa: SIM115  # until finish

    def find(self, flow: str, run: str) -> list[str]:
        """Return the paths of a run's records and its flow's, '/'-separated below the root."""
        found = self._records(metadata_directory(flow))
        start = os.path.join(self._root, flow, run)
        for directory, _, _ in os.walk(start):
            if os.path.basename(directory) == METADATA_DIRECTORY:
                found += self._records(os.path.relpath(directory, self._root).replace(os.sep, "/"))
        if not found:
            raise MetadataError(f"there is no metadata of {flow}/{run} below {self._root}; nothing was carried over")
        return found

    def add(self, paths: Iterable[str]) -> None:
        """Add files to the archive."""
        for path in paths:
            with open(os.path.join(self._root, *path.split("/")), "rb") as file:
                member = tarfile.TarInfo(f"{ROOT_NAME}/{path}")
                status = os.fstat(file.fileno())
                member.size, member.mtime, member.mode = status.st_size, status.st_mtime, 0o600
                self._tar.addfile(member, file)

    def finish(self) -> bytes:
        """Return the archive."""
        self._tar.close()
        self._gzip.close()
        return self._buffer.getvalue()

    def _records(self, directory: str) -> list[str]:
        try:
            names = os.listdir(os.path.join(self._root, *directory.split("/")))
        except (FileNotFoundError, NotADirectoryError):
            return []
        return [f"{directory}/{name}" for name in sorted(names) if is_metadata_record(name)]
