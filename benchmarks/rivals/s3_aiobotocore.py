"""aiobotocore used directly: one PUT or GET for each blob, 64 at once; no compression, no attributes."""

from __future__ import annotations

import asyncio
import hashlib
import os
from importlib.metadata import version

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session

AT_ONCE = 64


class Rival:
    def __init__(self) -> None:
        self._runner = asyncio.Runner()

    def save(self, root: str, blobs: list[bytes]) -> list[str]:
        keys = [hashlib.sha1(blob).hexdigest() for blob in blobs]
        self._runner.run(self._save(root, dict(zip(keys, blobs, strict=True))))
        return keys

    async def _save(self, root: str, blobs: dict[str, bytes]) -> None:
        bucket, _, prefix = root.removeprefix("s3://").partition("/")
        async with get_session().create_client("s3", **_options()) as client:
            places = asyncio.Semaphore(AT_ONCE)

            async def put(key: str, blob: bytes) -> None:
                async with places:
                    await client.put_object(Bucket=bucket, Key=f"{prefix}/{key}", Body=blob)

            async with asyncio.TaskGroup() as group:
                for key, blob in blobs.items():
                    group.create_task(put(key, blob))

    def load(self, root: str, keys: list[str]) -> list[bytes]:
        loaded: dict[str, bytes] = {}
        self._runner.run(self._load(root, keys, loaded))
        return [loaded[key] for key in keys]

    async def _load(self, root: str, keys: list[str], loaded: dict[str, bytes]) -> None:
        bucket, _, prefix = root.removeprefix("s3://").partition("/")
        async with get_session().create_client("s3", **_options()) as client:
            places = asyncio.Semaphore(AT_ONCE)

            async def get(key: str) -> None:
                async with places:
                    answer = await client.get_object(Bucket=bucket, Key=f"{prefix}/{key}")
                    async with answer["Body"] as body:
                        loaded[key] = await body.read()

            async with asyncio.TaskGroup() as group:
                for key in keys:
                    group.create_task(get(key))


def _options() -> dict[str, object]:
    config = AioConfig(max_pool_connections=AT_ONCE, s3={"addressing_style": "path"})
    return {"endpoint_url": os.environ["BENCH_ENDPOINT"], "region_name": "us-east-1", "config": config}


def versions() -> dict[str, str]:
    return {"aiobotocore": version("aiobotocore")}
