"""Reads a tar.gz that somebody else packed, without trusting it.

Synchronous; called in threads. Only regular files and directories with relative names are taken. Links, devices,
absolute names and ``..`` refuse the whole archive before anything of it is used, as do too many or too large members:
a few kilobytes can unpack to anything.
"""

from __future__ import annotations

import gzip
import io
import tarfile
import zlib
from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from asyncstore.errors import MetadataError
from asyncstore.types import MIB

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_BLOCK: Final = 512
_HEADERS_PER_MEMBER: Final = 8 * _BLOCK
"""Room for a member's headers, long names included, beside its content."""

_LATEST: Final = 2**33
"""Seconds since 1970: the year 2242."""


@dataclass(frozen=True, slots=True)
class TarLimits:
    """What an archive may hold: ``members``, and bytes of one ``member`` and of all of them, unpacked."""

    members: int = 1_000_000
    member: int = 16 * MIB
    total: int = 512 * MIB


@dataclass(frozen=True, slots=True)
class TarMember:
    """A file: its name with '/' between components, time in seconds since 1970, and content."""

    name: str
    modified: float
    content: bytes


def check_tar(archive: bytes, limits: TarLimits) -> Generator[str]:
    """Yield the names in an archive; raise `MetadataError` at the first member that is not harmless."""
    for _, member in _walk(archive, limits):
        yield member.name


def read_tar(archive: bytes, limits: TarLimits) -> Generator[TarMember]:
    """Yield the files of an archive that was checked."""
    for tar, member in _walk(archive, limits):
        source = tar.extractfile(member) if member.isfile() else None
        if source is not None:
            yield TarMember(member.name, float(member.mtime), source.read())


def _walk(archive: bytes, limits: TarLimits) -> Generator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    members = total = 0
    most = limits.total + limits.members * _HEADERS_PER_MEMBER
    try:
        with (
            gzip.GzipFile(fileobj=io.BytesIO(archive)) as unpacked,
            tarfile.open(fileobj=_Bounded(unpacked, most), mode="r|", errorlevel=2) as tar,
        ):
            for member in tar:
                members += 1
                total += member.size
                reason = _fault(member, members, total, limits)
                if reason is not None:
                    raise MetadataError(f"archive refused, nothing was unpacked: member {member.name!r:.200} {reason}")
                yield tar, member
    except (tarfile.TarError, OSError, EOFError, zlib.error, ValueError) as error:
        raise MetadataError(f"archive refused, nothing was unpacked: it is damaged ({error})") from error


def _fault(member: tarfile.TarInfo, members: int, total: int, limits: TarLimits) -> str | None:
    """Say why a member is not taken, or return None."""
    if not (member.isfile() or member.isdir()) or member.issparse():
        return "is neither a plain file nor a directory"
    parts = member.name.split("/")
    if member.name.startswith("/") or ".." in parts or "\\" in member.name or "\0" in member.name or ":" in parts[0]:
        return "has a name that leads elsewhere"
    if not 0 <= member.mtime < _LATEST:  # which also keeps out what is no number; the system takes neither
        return "has a time that is none"
    if members > limits.members:
        return f"is one more than the {limits.members} allowed"
    if member.size > limits.member:
        return f"has {member.size} bytes; at most {limits.member} are allowed"
    if total > limits.total:
        return f"makes the whole larger than the {limits.total} bytes allowed"
    return None


class _Bounded(io.RawIOBase):
    """A stream that fails beyond so many bytes.

    An archive's headers can claim any size, and are read before they can be looked at.
    """

    def __init__(self, file: gzip.GzipFile, most: int) -> None:
        self._file = file
        self._left = most

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        size = self._file.readinto(buffer)
        self._left -= size
        if self._left < 0:
            raise ValueError("it unpacks to more than is allowed")
        return size
