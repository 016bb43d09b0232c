"""The datastore that Metaflow wrote, on S3: every blob verifies there, and damages are named."""

from __future__ import annotations

import gzip
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from asyncstore.maintain.check import check_blobs, find_blob_directories
from asyncstore.storage.limited import Limited
from asyncstore.storage.retrying import Retrying
from asyncstore.storage.s3 import S3Storage
from tests.golden import expected, extract
from tests.servers.start import S3Server
from tests.storage.s3.conftest import OpenS3

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return extract(tmp_path_factory.mktemp("golden"), below="TourFlow/data")


@pytest.fixture(params=["moto", "rclone"])
def server(request: pytest.FixtureRequest) -> S3Server:
    found: S3Server = request.getfixturevalue(request.param)
    return found


def put_as_metaflow_does(client: Any, storage: S3Storage, golden: Path, changed: dict[str, bytes]) -> int:
    """Put the files of the golden datastore into a bucket with the attributes of their sidecars."""

    def put(file: Path) -> None:
        path = file.relative_to(golden).as_posix()
        sidecar = Path(f"{file}_meta")
        metadata = {"metaflow-user-attributes": sidecar.read_text()} if sidecar.exists() else {}
        body = changed.get(path, file.read_bytes())
        client.put_object(Bucket=storage.bucket, Key=f"some/prefix/{path}", Body=body, Metadata=metadata)

    files = [file for file in golden.rglob("*") if file.is_file() and not file.name.endswith("_meta")]
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(put, files))
    return len(files)


async def test_every_blob_that_metaflow_wrote_is_verified_and_damages_are_named(
    golden: Path, server: S3Server, open_s3: OpenS3
) -> None:
    keys = sorted(expected()["blobs"])
    flipped, emptied, replaced = (expected()["blobs"][keys[number]]["stored_file"] for number in (3, 50, 100))
    body = bytearray((golden / flipped).read_bytes())
    body[len(body) // 2] ^= 1
    damages = {flipped: bytes(body), emptied: b"", replaced: gzip.compress(b"another content")}
    for changed in ({}, damages):
        s3 = await open_s3(server)
        assert put_as_metaflow_does(server.shared_client, s3, golden, changed) == 132
        storage = Retrying(Limited(s3))
        async with check_blobs(storage, await find_blob_directories(storage)) as blobs:
            seen = [blob async for blob in blobs]
        assert {blob.key for blob in seen} == set(keys)
        assert {blob.path for blob in seen if blob.error is not None} == changed.keys()
        assert {blob.path for blob in seen if blob.damaged} == changed.keys()
