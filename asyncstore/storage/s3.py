"""Objects in a bucket of S3, or of a server that speaks its protocol, through the AWS SDK (aiobotocore).

Keys and attributes are those of Metaflow 2.19 (``plugins/datastores/s3_storage.py``).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeVar, cast

from asyncstore.config import load_config
from asyncstore.errors import AlreadyExistsError, ConfigError
from asyncstore.layout import check_directory, check_path
from asyncstore.runtime import Runtime
from asyncstore.storage.attributes import encode_attributes
from asyncstore.storage.base import (
    MultipartLimits,
    MultipartUpload,
    ObjectReader,
    SupportsCopy,
    SupportsOpenUploads,
)
from asyncstore.storage.parts import check_part_size
from asyncstore.storage.registry import StorageSettings
from asyncstore.storage.s3_body import UploadBody, checksum_arguments
from asyncstore.storage.s3_call import S3Caller
from asyncstore.storage.s3_copy import S3Copy
from asyncstore.storage.s3_errors import SDK_ERRORS, code_of, status_of, translate
from asyncstore.storage.s3_get import ATTRIBUTES, meta_of, open_object, plain_etag
from asyncstore.storage.s3_list import S3Listing
from asyncstore.storage.s3_multipart import LIMITS, S3OpenUploads, S3Upload
from asyncstore.storage.s3_settings import S3Settings
from asyncstore.storage.url import StorageUrl, parse_url
from asyncstore.types import Attributes, Buffer, ByteRange, ListEntry, ObjectMeta, Timeouts, WriteMode

P = TypeVar("P")


def build(url: StorageUrl, settings: StorageSettings) -> S3Storage:
    """Build the storage at a URL; options that are not given come from Metaflow's settings for S3."""
    config = load_config()
    options: dict[str, Any] = {
        "endpoint_url": config.s3_endpoint_url,
        "verify": config.s3_verify_certificate,
        "server_side_encryption": config.s3_server_side_encryption,
        **{name: value for name, value in settings.options.items() if value is not None},
    }
    given = {name: value for name, value in options.items() if value != ""}  # empty: what somebody unset
    return S3Storage(str(url), runtime=settings.runtime, timeouts=settings.timeouts, settings=S3Settings(**given))


class S3Storage:
    """Objects below ``s3://bucket/prefix``.

    Opens its client at the first call and shares it with the storages of its runtime that have the same settings.
    Pickles as URL, settings, timeouts and runtime; what comes back opens a client of its own.
    """

    def __init__(
        self, url: str, *, runtime: Runtime, timeouts: Timeouts | None = None, settings: S3Settings | None = None
    ) -> None:
        address = parse_url(url)
        if address.scheme != "s3":
            raise ConfigError(f"{address} is no URL of the form s3://bucket/prefix", where=str(address))
        self.root = str(address)
        self.bucket = address.place
        self._base = f"{address.prefix}/" if address.prefix else ""
        self.settings = settings or S3Settings()
        self.timeouts = timeouts or Timeouts()
        self._runtime = runtime
        self._caller = S3Caller(self.bucket, self.root, self.settings, self.timeouts, runtime)

    @property
    def TYPE(self) -> str:  # noqa: N802  # Metaflow's name
        return "s3"

    @property
    def runtime(self) -> Runtime:
        return self._runtime

    @property
    def multipart_limits(self) -> MultipartLimits:
        return LIMITS

    def __repr__(self) -> str:
        return f"S3Storage({self.root!r}, settings={self.settings!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self.root, self._runtime, self.timeouts, self.settings)

    async def head(self, path: str) -> ObjectMeta | None:
        check_path(path)
        try:
            answer = await self._caller.call_raw("head_object", Key=self._base + path)
        except SDK_ERRORS as error:
            if status_of(error) == 404:
                return None
            raise translate(error, "head", path, self.root) from error
        return meta_of(answer, path, answer["ContentLength"])

    @asynccontextmanager
    async def get(
        self, path: str, *, byte_range: ByteRange | None = None, if_match: str | None = None
    ) -> AsyncGenerator[ObjectReader]:
        check_path(path)
        async with open_object(self._caller, self._base + path, path, byte_range, if_match) as reader:
            yield reader

    async def put(
        self, path: str, data: Buffer, *, attributes: Attributes | None = None, mode: WriteMode = "overwrite"
    ) -> ObjectMeta:
        check_path(path)
        arguments = self._written(attributes)
        if mode == "create":
            await self._ask_first(path, "put")
            if self.settings.conditional_writes:
                arguments["IfNoneMatch"] = "*"
        arguments |= await checksum_arguments(data, self.settings.effective_checksum, self._runtime.pool)
        body = UploadBody(data)
        size = len(body)
        try:
            answer = await self._caller.call(
                "put_object", "put", path, moved=size, Key=self._base + path, Body=body, **arguments
            )
        finally:
            body.release()
        return ObjectMeta(size, plain_etag(answer.get("ETag")), None, attributes or {})

    async def create_multipart(
        self, path: str, *, part_size: int, attributes: Attributes | None = None, mode: WriteMode = "overwrite"
    ) -> MultipartUpload:
        check_path(path)
        check_part_size(LIMITS, part_size, path)
        arguments = self._written(attributes)
        if mode == "create":
            await self._ask_first(path, "create_multipart")
        upload = S3Upload(self._caller, self._base + path, path, part_size, attributes, mode)
        await upload.begin(arguments)
        return upload

    @asynccontextmanager
    async def list(self, prefix: str, *, recursive: bool = False) -> AsyncGenerator[AsyncIterator[ListEntry]]:
        check_directory(prefix)
        yield S3Listing(self._caller, self._base, prefix, recursive=recursive)

    async def delete(self, path: str) -> None:
        check_path(path)
        try:
            await self._caller.call_raw("delete_object", Key=self._base + path)
        except SDK_ERRORS as error:
            if status_of(error) != 404 or code_of(error) == "NoSuchBucket":
                raise translate(error, "delete", path, self.root) from error

    def power(self, kind: type[P]) -> P | None:
        if kind is SupportsCopy:
            return cast("P", S3Copy(self._caller, self._base, self._encryption()))
        if kind is SupportsOpenUploads:
            return cast("P", S3OpenUploads(self._caller, self._base))
        return None

    async def aclose(self) -> None:
        await self._caller.aclose()

    def _written(self, attributes: Attributes | None) -> dict[str, Any]:
        text = encode_attributes(attributes)
        return ({} if text is None else {"Metadata": {ATTRIBUTES: text}}) | self._encryption()

    def _encryption(self) -> dict[str, Any]:
        chosen = {
            "ServerSideEncryption": self.settings.server_side_encryption,
            "SSEKMSKeyId": self.settings.kms_key_id,
        }
        return {name: value for name, value in chosen.items() if value}

    async def _ask_first(self, path: str, operation: str) -> None:
        if not self.settings.conditional_writes and await self.head(path) is not None:
            raise AlreadyExistsError(
                f"{operation} of {path} in {self.root}: an object is in place", operation=operation, where=path
            )


def _restore(url: str, runtime: Runtime, timeouts: Timeouts, settings: S3Settings) -> S3Storage:
    return S3Storage(url, runtime=runtime, timeouts=timeouts, settings=settings)
