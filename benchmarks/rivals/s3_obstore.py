"""obstore (object_store in Rust) used directly: one PUT or GET for each blob, 64 at once."""

from __future__ import annotations

import asyncio
import hashlib
import os
from importlib.metadata import version
from typing import Any

import obstore
from obstore.store import S3Store

AT_ONCE = 64


class Rival:
    def __init__(self) -> None:
        self._runner = asyncio.Runner()

    def save(self, root: str, blobs: list[bytes]) -> list[str]:
        keys = [hashlib.sha1(blob).hexdigest() for blob in blobs]
        self._runner.run(self._save(_store(root), dict(zip(keys, blobs, strict=True))))
        return keys

    async def _save(self, store: Any, blobs: dict[str, bytes]) -> None:
        places = asyncio.Semaphore(AT_ONCE)

        async def put(key: str, blob: bytes) -> None:
            async with places:
                await obstore.put_async(store, key, blob)

        async with asyncio.TaskGroup() as group:
            for key, blob in blobs.items():
                group.create_task(put(key, blob))

    def load(self, root: str, keys: list[str]) -> list[bytes]:
        loaded: dict[str, bytes] = {}
        self._runner.run(self._load(_store(root), keys, loaded))
        return [loaded[key] for key in keys]

    async def _load(self, store: Any, keys: list[str], loaded: dict[str, bytes]) -> None:
        places = asyncio.Semaphore(AT_ONCE)

        async def get(key: str) -> None:
            async with places:
                answer = await obstore.get_async(store, key)
                loaded[key] = bytes(await answer.bytes_async())

        async with asyncio.TaskGroup() as group:
            for key in keys:
                group.create_task(get(key))


def _store(root: str) -> Any:
    bucket, _, prefix = root.removeprefix("s3://").partition("/")
    return S3Store(
        bucket,
        prefix=prefix,
        endpoint=os.environ["BENCH_ENDPOINT"],
        region="us-east-1",
        access_key_id=os.environ["AWS_ACCESS_KEY_ID"],
        secret_access_key=os.environ["AWS_SECRET_ACCESS_KEY"],
        virtual_hosted_style_request=False,
        client_options={"allow_http": True},
    )


def versions() -> dict[str, str]:
    return {"obstore": version("obstore")}
