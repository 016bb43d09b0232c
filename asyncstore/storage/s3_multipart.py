"""Uploads in parts, and those that a dead process left open."""

from __future__ import annotations

from typing import Any

import anyio

from asyncstore.concurrency import CLEANUP_SECONDS, task_group
from asyncstore.storage.base import MultipartLimits, OpenUpload
from asyncstore.storage.parts import check_complete, check_part, upload_ended
from asyncstore.storage.s3_body import UploadBody, checksum_arguments
from asyncstore.storage.s3_call import S3Caller
from asyncstore.storage.s3_errors import SDK_ERRORS, code_of, translate
from asyncstore.storage.s3_get import in_utc, plain_etag
from asyncstore.types import GIB, MIB, Attributes, Buffer, ObjectMeta, WriteMode

LIMITS = MultipartLimits(min_part=5 * MIB, max_part=5 * GIB, max_parts=10_000)
"""Amazon S3's own; the servers that speak its protocol keep to them."""


class S3Upload:
    """One multipart upload."""

    def __init__(
        self, caller: S3Caller, key: str, path: str, part_size: int, attributes: Attributes | None, mode: WriteMode
    ) -> None:
        self._caller = caller
        self._key = key
        self._path = path
        self._part_size = part_size
        self._attributes = attributes or {}
        self._mode: WriteMode = mode
        self._parts: dict[int, tuple[int, dict[str, Any]]] = {}
        self._id = ""
        self._ended = False

    async def begin(self, arguments: dict[str, Any]) -> None:
        """Ask for the upload. If cancelled, waits a little for its id, since nobody else could ever abort it."""
        if self._caller.settings.effective_checksum == "crc32":
            arguments["ChecksumAlgorithm"] = "CRC32"
        try:
            async with task_group() as group:
                group.start_soon(self._ask, arguments)
        except BaseException:
            if self._id:
                with anyio.move_on_after(CLEANUP_SECONDS, shield=True):
                    await self.abort()
            raise

    async def _ask(self, arguments: dict[str, Any]) -> None:
        async def limit() -> None:
            try:
                await anyio.sleep_forever()
            finally:
                shield.deadline = anyio.current_time() + CLEANUP_SECONDS

        async with task_group() as group:
            with anyio.CancelScope(shield=True) as shield:
                group.start_soon(limit)
                answer = await self._caller.call(
                    "create_multipart_upload", "create_multipart", self._path, Key=self._key, **arguments
                )
                self._id = answer["UploadId"]
            group.cancel_scope.cancel()

    async def put_part(self, number: int, data: Buffer) -> None:
        size = memoryview(data).nbytes
        check_part(LIMITS, number, size, self._part_size, self._path)
        if self._ended:
            raise upload_ended("put_part", self._path)
        checksum = await checksum_arguments(data, self._caller.settings.effective_checksum, self._caller.runtime.pool)
        body = UploadBody(data)
        try:
            answer = await self._caller.call(
                "upload_part",
                "put_part",
                self._path,
                moved=size,
                Key=self._key,
                UploadId=self._id,
                PartNumber=number + 1,
                Body=body,
                **checksum,
            )
        finally:
            body.release()
        part = {"PartNumber": number + 1, "ETag": answer["ETag"]}
        if "ChecksumCRC32" in checksum:
            part["ChecksumCRC32"] = checksum["ChecksumCRC32"]
        self._parts[number] = (size, part)

    async def complete(self) -> ObjectMeta:
        if self._ended:
            raise upload_ended("complete", self._path)
        size = check_complete({number: part[0] for number, part in self._parts.items()}, self._part_size, self._path)
        condition: dict[str, Any] = {}
        if self._mode == "create" and self._caller.settings.conditional_writes:
            condition["IfNoneMatch"] = "*"
        parts = [self._parts[number][1] for number in sorted(self._parts)]
        answer = await self._caller.call(
            "complete_multipart_upload",
            "complete",
            self._path,
            moved=size,  # S3 puts the parts together before it answers, which takes it minutes for the largest
            Key=self._key,
            UploadId=self._id,
            MultipartUpload={"Parts": parts},
            **condition,
        )
        self._ended = True
        return ObjectMeta(size, plain_etag(answer.get("ETag")), None, self._attributes)

    async def abort(self) -> None:
        if not self._ended:
            await abort_upload(self._caller, self._key, self._path, self._id)
            self._ended = True


async def abort_upload(caller: S3Caller, key: str, path: str, upload_id: str) -> None:
    """Drop the parts of an upload; one that has ended already is no error."""
    try:
        await caller.call_raw("abort_multipart_upload", Key=key, UploadId=upload_id)
    except SDK_ERRORS as error:
        if code_of(error) != "NoSuchUpload":
            raise translate(error, "abort", path, caller.root) from error


class S3OpenUploads:
    """The uploads below a storage's root that have neither ended nor been aborted."""

    def __init__(self, caller: S3Caller, base: str) -> None:
        self._caller = caller
        self._base = base

    async def open_uploads(self) -> list[OpenUpload]:
        found: list[OpenUpload] = []
        marker: dict[str, Any] = {}
        while True:
            page = await self._page(marker)
            for one in page.get("Uploads") or ():
                path = one["Key"][len(self._base) :]
                found.append(OpenUpload(path, one["UploadId"], in_utc(one.get("Initiated"))))
            if not page.get("IsTruncated"):
                return found
            marker = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}

    async def _page(self, marker: dict[str, Any]) -> Any:
        try:
            return await self._caller.call_raw("list_multipart_uploads", Prefix=self._base, **marker)
        except SDK_ERRORS as error:
            if code_of(error) == "NoSuchUpload":
                return {}  # rclone's word for none
            raise translate(error, "open_uploads", "", self._caller.root) from error

    async def abort_upload(self, upload: OpenUpload) -> None:
        await abort_upload(self._caller, self._base + upload.path, upload.path, upload.upload_id)
