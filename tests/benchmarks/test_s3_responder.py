"""The benchmark's S3 responder keeps what it is given, or the benchmark would measure nothing."""

from __future__ import annotations

import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from asyncstore.errors import AlreadyExistsError, ObjectNotFoundError
from asyncstore.runtime import Runtime
from asyncstore.storage.s3 import S3Storage
from asyncstore.storage.s3_settings import S3Settings
from asyncstore.types import MIB, ByteRange
from benchmarks.places import ResponderPlace
from benchmarks.s3_responder import ceiling, responding


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with responding(None) as url:
        yield url


@pytest.fixture
async def storage(url: str, tmp_path: Path) -> AsyncIterator[S3Storage]:
    file = tmp_path / "credentials"
    file.write_text("[default]\naws_access_key_id=AKIANOTCHECKED\naws_secret_access_key=notchecked\n")
    settings = S3Settings(endpoint_url=url, credentials_file=str(file))
    async with Runtime() as runtime:
        storage = S3Storage(f"s3://{tmp_path.name.replace('_', '-')}/root", runtime=runtime, settings=settings)
        yield storage
        await storage.aclose()


def fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        text: str = answer.read().decode()
        return text


async def read(storage: S3Storage, path: str, byte_range: ByteRange | None = None) -> bytes:
    async with storage.get(path, byte_range=byte_range) as reader:
        return b"".join([chunk async for chunk in reader])


async def test_it_keeps_objects_with_their_attributes(storage: S3Storage) -> None:
    put = await storage.put("d/a", b"content", attributes={"k": "ä"})
    head = await storage.head("d/a")
    assert head is not None
    assert (head.size, head.etag, head.attributes) == (7, put.etag, {"k": "ä"})
    assert await read(storage, "d/a") == b"content"
    assert await read(storage, "d/a", ByteRange(1, 3)) == b"on"
    assert await read(storage, "d/a", ByteRange(9)) == b""
    with pytest.raises(AlreadyExistsError):
        await storage.put("d/a", b"other", mode="create")
    await storage.delete("d/a")
    assert await storage.head("d/a") is None
    with pytest.raises(ObjectNotFoundError):
        await read(storage, "d/a")


async def test_it_puts_parts_together_and_forgets_aborted_ones(storage: S3Storage) -> None:
    upload = await storage.create_multipart("large", part_size=5 * MIB, attributes={"k": 1}, mode="create")
    await upload.put_part(1, b"end")
    await upload.put_part(0, bytes(5 * MIB))
    await upload.complete()
    assert await read(storage, "large") == bytes(5 * MIB) + b"end"
    again = await storage.create_multipart("large", part_size=5 * MIB, mode="create")
    await again.put_part(0, b"x")
    with pytest.raises(AlreadyExistsError):
        await again.complete()
    await again.abort()


async def test_it_lists_by_page_and_directory_and_counts_what_is_stored(storage: S3Storage, url: str) -> None:
    for number in range(5):
        await storage.put(f"d/{number}/a b&c", b"12")
    await storage.put("z", b"1")
    async with storage.list("", recursive=True) as found:
        assert [entry.path async for entry in found] == [*(f"d/{number}/a b&c" for number in range(5)), "z"]
    async with storage.list("") as found:
        assert [(entry.path, entry.kind) async for entry in found] == [("d", "directory"), ("z", "object")]
    async with storage.list("d") as found:
        assert [entry.path async for entry in found] == [f"d/{number}" for number in range(5)]
    assert ResponderPlace(url, 1).stored_bytes(storage.root) == 11
    page = fetch(f"{url}/{storage.bucket}?list-type=2&max-keys=2")
    assert page.count("<Key>") == 2
    assert "<IsTruncated>true</IsTruncated>" in page


def test_its_ceiling_is_measured(url: str) -> None:
    assert ceiling(url, seconds=0.2).gets_per_second > 100
