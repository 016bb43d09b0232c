"""The body of an upload: its checksum, and sending it in pieces that nothing keeps."""

from __future__ import annotations

import base64
import hashlib
import zlib

from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import Payload

from asyncstore.concurrency import ThreadPool
from asyncstore.storage.s3_settings import Checksum
from asyncstore.types import KIB, Buffer

PIECE = 256 * KIB
INLINE = 64 * KIB  # a checksum of this many bytes costs less than a thread hop


class UploadBody(Payload):
    """A buffer on its way, copied piece by piece.

    asyncio keeps what the kernel did not take: as one copy of the whole rest in Python 3.11, as a view of the
    caller's buffer from 3.12. A piece at a time bounds the first and, copied, prevents the second.
    """

    def __init__(self, data: Buffer) -> None:
        self._view = memoryview(data).cast("B") if memoryview(data).nbytes else memoryview(b"")
        super().__init__(None)
        self._size = len(self._view)

    def __len__(self) -> int:
        return len(self._view)

    @property
    def consumed(self) -> bool:
        """Always true: what was begun to be sent is not sent again by aiohttp; `Retrying` decides on that."""
        return True

    def seek(self, position: int) -> None:
        """Do nothing: every writing begins at the start. The SDK asks for it before it follows a bucket elsewhere."""

    def __bool__(self) -> bool:
        return bool(self._view)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return str(self._view, encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Send the body; called by aiohttp."""
        await self.write_with_length(writer, None)

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        """Send the body; called by aiohttp, with the length that `__len__` told."""
        assert content_length in {None, len(self._view)}, f"a body of {len(self._view)} bytes, not {content_length}"
        for start in range(0, len(self._view), PIECE):
            await writer.write(bytes(self._view[start : start + PIECE]))

    def release(self) -> None:
        """Let go of the buffer; a writer that has not heard of the cancellation yet sends nothing more of it."""
        self._view = memoryview(b"")


async def checksum_arguments(data: Buffer, checksum: Checksum, pool: ThreadPool) -> dict[str, str]:
    """Return the argument of a put or part that carries the body's checksum."""
    if checksum == "none":
        return {}
    work = _crc32 if checksum == "crc32" else _md5
    digest = work(data) if memoryview(data).nbytes <= INLINE else await pool.run(work, data)
    return {"ChecksumCRC32" if checksum == "crc32" else "ContentMD5": base64.b64encode(digest).decode()}


def _crc32(data: Buffer) -> bytes:
    return zlib.crc32(data).to_bytes(4, "big")


def _md5(data: Buffer) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).digest()
