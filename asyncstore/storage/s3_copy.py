"""Copies inside one S3 service; the bytes do not pass through this process."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import anyio

from asyncstore.concurrency import CLEANUP_SECONDS, run_all
from asyncstore.errors import AlreadyExistsError, ObjectNotFoundError
from asyncstore.layout import check_path
from asyncstore.storage.base import CopySource
from asyncstore.storage.s3_call import S3Caller
from asyncstore.storage.s3_errors import SDK_ERRORS, status_of, translate
from asyncstore.storage.s3_get import ATTRIBUTES, meta_of, plain_etag
from asyncstore.storage.s3_multipart import abort_upload
from asyncstore.types import GIB, ObjectMeta, WriteMode

LARGEST_COPY = 5 * GIB
"""S3's limit for one CopyObject; larger objects are copied in parts."""
COPY_PART = GIB
PARTS_AT_ONCE = 4


class S3Copy:
    """Copy within one endpoint.

    A copy takes a HEAD of the source, one of the target for a create, and one request, or one for each GiB above 5.
    """

    def __init__(self, caller: S3Caller, base: str, encryption: dict[str, Any]) -> None:
        self._caller = caller
        self._base = base
        self._encryption = encryption

    def copy_source(self, path: str) -> CopySource:
        return CopySource("s3", f"{self._endpoint} {self._caller.bucket} {self._base}{check_path(path)}")

    async def copy_from(self, source: CopySource, path: str, *, mode: WriteMode = "overwrite") -> ObjectMeta | None:
        check_path(path)
        endpoint, _, rest = source.address.partition(" ")
        if source.type != "s3" or endpoint != self._endpoint:
            return None
        bucket, _, key = rest.partition(" ")
        found = await self._head(bucket, key)
        meta = meta_of(found, key, found["ContentLength"])
        # Asked first everywhere, since the condition came late to copies: moto does not know it there.
        if mode == "create" and await self._exists(path):
            raise AlreadyExistsError(f"copy to {path}: an object is in place", operation="copy_from", where=path)
        condition: dict[str, Any] = {}
        if mode == "create" and self._caller.settings.conditional_writes:
            condition["IfNoneMatch"] = "*"
        origin = {"CopySource": {"Bucket": bucket, "Key": key}, "CopySourceIfMatch": found["ETag"]}
        if meta.size > LARGEST_COPY:
            etag = await self._copy_parts(path, meta.size, found, origin, condition)
        else:
            answer = await self._caller.call(
                "copy_object",
                "copy_from",
                path,
                moved=meta.size,
                Key=self._base + path,
                **origin,
                **condition,
                **self._encryption,
            )
            etag = answer["CopyObjectResult"].get("ETag")
        return ObjectMeta(meta.size, plain_etag(etag), None, meta.attributes)

    @property
    def _endpoint(self) -> str:
        settings = self._caller.settings
        return (settings.endpoint_url or f"aws:{settings.region or ''}").rstrip("/")

    async def _head(self, bucket: str, key: str) -> Any:
        where = f"s3://{bucket}/{key}"
        try:
            return await self._caller.call_raw("head_object", Bucket=bucket, Key=key)
        except SDK_ERRORS as error:
            if status_of(error) == 404:
                raise ObjectNotFoundError(
                    f"copy: there is no object {where}", operation="copy_from", where=where
                ) from error
            raise translate(error, "copy_from", where, self._caller.root) from error

    async def _exists(self, path: str) -> bool:
        try:
            await self._head(self._caller.bucket, self._base + path)
        except ObjectNotFoundError:
            return False
        return True

    async def _copy_parts(
        self, path: str, size: int, found: Any, origin: dict[str, Any], condition: dict[str, Any]
    ) -> str | None:
        key = self._base + path
        # Unlike CopyObject, an upload takes nothing over from the source.
        text = {name.lower(): value for name, value in found["Metadata"].items()}.get(ATTRIBUTES)
        metadata: dict[str, Any] = {"Metadata": {ATTRIBUTES: text}} if text else {}
        begun = await self._caller.call(
            "create_multipart_upload", "copy_from", path, Key=key, **metadata, **self._encryption
        )
        identity: dict[str, Any] = {"Key": key, "UploadId": begun["UploadId"]}
        parts: dict[int, dict[str, Any]] = {}

        async def copy_part(part: tuple[int, int]) -> None:
            number, start = part
            stop = min(start + COPY_PART, size)
            answer = await self._caller.call(
                "upload_part_copy",
                "copy_from",
                path,
                moved=stop - start,
                PartNumber=number,
                CopySourceRange=f"bytes={start}-{stop - 1}",
                **identity,
                **origin,
            )
            parts[number] = {"PartNumber": number, "ETag": answer["CopyPartResult"]["ETag"]}

        try:
            await run_all(_numbered(range(0, size, COPY_PART)), copy_part, width=PARTS_AT_ONCE)
            ordered = {"Parts": [parts[number] for number in sorted(parts)]}
            answer = await self._caller.call(
                "complete_multipart_upload",
                "copy_from",
                path,
                moved=size,
                MultipartUpload=ordered,
                **identity,
                **condition,
            )
        except BaseException:
            with anyio.move_on_after(CLEANUP_SECONDS, shield=True):
                await abort_upload(self._caller, key, path, begun["UploadId"])
            raise
        return cast("str | None", answer.get("ETag"))


def _numbered(starts: range) -> Iterator[tuple[int, int]]:
    return enumerate(starts, 1)
