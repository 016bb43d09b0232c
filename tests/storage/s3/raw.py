"""Reads and writes a bucket behind the storage's back: with the SDK's blocking client, by none of asyncstore's code."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio.to_thread
from botocore.exceptions import ClientError

from asyncstore.testing.harness import RawObject

ATTRIBUTES = "metaflow-user-attributes"


class RawS3:
    """The raw hooks of the conformance suite for a bucket and prefix."""

    def __init__(self, client: Any, bucket: str, prefix: str) -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = f"{prefix}/"

    async def read(self, path: str) -> RawObject | None:
        return await anyio.to_thread.run_sync(self._read, path)

    def _read(self, path: str) -> RawObject | None:
        try:
            answer = self._client.get_object(Bucket=self._bucket, Key=self._prefix + path)
        except ClientError as error:
            if error.response["Error"]["Code"] == "NoSuchKey":
                return None
            raise
        with answer["Body"] as body:
            data = body.read()
        metadata = {name.lower(): value for name, value in answer["Metadata"].items()}
        return RawObject(data, metadata.get(ATTRIBUTES))

    async def write(self, path: str, raw: RawObject) -> None:
        metadata = {} if raw.attributes is None else {ATTRIBUTES: raw.attributes}
        await anyio.to_thread.run_sync(self._put, path, raw.data, metadata)

    def _put(self, path: str, data: bytes, metadata: dict[str, str]) -> None:
        self._client.put_object(Bucket=self._bucket, Key=self._prefix + path, Body=data, Metadata=metadata)

    async def seed(self, directory: str, names: Sequence[str]) -> None:
        def put_all() -> None:
            with ThreadPoolExecutor(8) as threads:
                list(threads.map(lambda name: self._put(f"{directory}/{name}", b"", {}), names))

        await anyio.to_thread.run_sync(put_all)

    async def remove(self, path: str) -> None:
        def remove() -> None:
            self._client.delete_object(Bucket=self._bucket, Key=self._prefix + path)

        await anyio.to_thread.run_sync(remove)

    async def paths(self) -> set[str]:
        return await anyio.to_thread.run_sync(self._paths)

    def _paths(self) -> set[str]:
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=self._prefix)
        return {one["Key"][len(self._prefix) :] for page in pages for one in page.get("Contents", ())}

    async def leftovers(self) -> set[str]:
        return await anyio.to_thread.run_sync(self._uploads)

    def _uploads(self) -> set[str]:
        try:
            found = self._client.list_multipart_uploads(Bucket=self._bucket, Prefix=self._prefix)
        except self._client.exceptions.NoSuchUpload:
            return set()  # rclone's word for none
        assert not found.get("IsTruncated")
        return {one["Key"] for one in found.get("Uploads", ())}
