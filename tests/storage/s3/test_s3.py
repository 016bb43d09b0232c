import contextlib
import pickle
from datetime import UTC

import pytest

from asyncstore.errors import AlreadyExistsError, ObjectNotFoundError, PreconditionFailedError
from asyncstore.storage.base import SupportsCopy, SupportsOpenUploads
from asyncstore.storage.s3 import S3Storage
from asyncstore.types import MIB, ByteRange
from tests.servers.start import S3Server
from tests.storage.s3.conftest import OpenS3

pytestmark = pytest.mark.servers


def copier_of(storage: S3Storage) -> SupportsCopy:
    copier = storage.power(SupportsCopy)
    assert copier is not None
    return copier


def uploads_of(storage: S3Storage) -> SupportsOpenUploads:
    uploads = storage.power(SupportsOpenUploads)
    assert uploads is not None
    return uploads


async def read(storage: S3Storage, path: str, byte_range: ByteRange | None = None) -> bytes:
    async with storage.get(path, byte_range=byte_range) as reader:
        return b"".join([chunk async for chunk in reader])


async def test_an_object_comes_back_with_its_attributes(s3_server: S3Server, open_s3: OpenS3) -> None:
    storage = await open_s3(s3_server)
    written = await storage.put("a/b", memoryview(b"content"), attributes={"ä": [1, None]})
    assert await read(storage, "a/b") == b"content"
    assert await read(storage, "a/b", ByteRange(1, 3)) == b"on"
    found = await storage.head("a/b")
    assert found is not None
    assert (found.size, found.etag, found.attributes) == (7, written.etag, {"ä": [1, None]})
    assert found.modified is not None
    assert found.modified.tzinfo is UTC


async def test_metaflow_attributes_and_content_type_stand_behind_the_store(
    s3_server: S3Server, open_s3: OpenS3
) -> None:
    storage = await open_s3(s3_server)
    await storage.put("a", b"x", attributes={"cas_raw": False, "cas_version": 1})
    with contextlib.closing(s3_server.client()) as client:
        found = client.head_object(Bucket=storage.bucket, Key="some/prefix/a")
    metadata = {name.lower(): value for name, value in found["Metadata"].items()}
    assert metadata["metaflow-user-attributes"] == '{"cas_raw": false, "cas_version": 1}'
    # Metaflow leaves the type to the server as well.
    assert found["ContentType"] in {"binary/octet-stream", "application/octet-stream"}


@pytest.mark.parametrize("body", [b"", b"five "])
@pytest.mark.parametrize("byte_range", [ByteRange(5), ByteRange(7, 9)])
async def test_a_range_behind_the_end_gives_no_bytes_but_the_size(
    s3_server: S3Server, open_s3: OpenS3, body: bytes, byte_range: ByteRange
) -> None:
    storage = await open_s3(s3_server)
    await storage.put("a", body)
    async with storage.get("a", byte_range=byte_range) as reader:
        assert [chunk async for chunk in reader] == []
        assert reader.meta.size == len(body)


async def test_a_changed_object_is_not_read_for_its_old_etag(s3_server: S3Server, open_s3: OpenS3) -> None:
    storage = await open_s3(s3_server)
    old = await storage.put("a", b"old")
    async with storage.get("a", if_match=old.etag) as reader:
        assert reader.meta.size == 3
    await storage.put("a", b"new")
    for byte_range in (None, ByteRange(1), ByteRange(9)):
        with pytest.raises(PreconditionFailedError):
            async with storage.get("a", if_match=old.etag, byte_range=byte_range):
                pass


async def test_a_copy_inside_the_server_keeps_content_and_attributes(s3_server: S3Server, open_s3: OpenS3) -> None:
    storage = await open_s3(s3_server)
    other = await open_s3(s3_server, runtime=storage.runtime)
    await storage.put("from/a", b"content", attributes={"n": 1})
    source, target = copier_of(storage), copier_of(other)
    await target.copy_from(source.copy_source("from/a"), "to/b")
    found = await other.head("to/b")
    assert found is not None
    assert (found.size, found.attributes) == (7, {"n": 1})
    assert await read(other, "to/b") == b"content"
    with pytest.raises(ObjectNotFoundError, match="from/b"):
        await target.copy_from(source.copy_source("from/b"), "to/c")
    with pytest.raises(AlreadyExistsError):
        await target.copy_from(source.copy_source("from/a"), "to/b", mode="create")


async def test_an_object_above_the_limit_is_copied_in_parts(
    moto: S3Server, open_s3: OpenS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asyncstore.storage.s3_copy.LARGEST_COPY", 5 * MIB)
    monkeypatch.setattr("asyncstore.storage.s3_copy.COPY_PART", 5 * MIB)
    storage = await open_s3(moto)
    body = bytes(range(256)) * (11 * MIB // 256)
    await storage.put("a", body, attributes={"n": 1})
    copier = copier_of(storage)
    copied = await copier.copy_from(copier.copy_source("a"), "b")
    assert copied is not None
    assert copied.etag is not None
    assert copied.etag.endswith("-3")  # the mark of an object that was put together from three parts
    found = await storage.head("b")
    assert found is not None
    assert found.attributes == {"n": 1}
    assert await read(storage, "b") == body
    with pytest.raises(AlreadyExistsError):
        await copier.copy_from(copier.copy_source("a"), "b", mode="create")
    assert await open_upload_paths(storage) == []


async def test_another_endpoint_is_not_copied_from(moto: S3Server, rclone: S3Server, open_s3: OpenS3) -> None:
    here, there = await open_s3(moto), await open_s3(rclone)
    source, target = copier_of(there), copier_of(here)
    assert await target.copy_from(source.copy_source("a"), "b") is None


async def open_upload_paths(storage: S3Storage) -> list[str]:
    return [upload.path for upload in await uploads_of(storage).open_uploads()]


async def test_open_uploads_are_listed_and_aborted(s3_server: S3Server, open_s3: OpenS3) -> None:
    storage = await open_s3(s3_server)
    left = [await storage.create_multipart(path, part_size=5 * MIB) for path in ("a/1", "a/2", "b")]
    await left[0].put_part(0, b"x")
    uploads = uploads_of(storage)
    assert sorted(await open_upload_paths(storage)) == ["a/1", "a/2", "b"]
    for upload in await uploads.open_uploads() * 2:
        await uploads.abort_upload(upload)
    assert await open_upload_paths(storage) == []


async def test_storages_of_one_runtime_share_a_client_until_the_last_is_closed(moto: S3Server, open_s3: OpenS3) -> None:
    first = await open_s3(moto)
    second = await open_s3(moto, runtime=first.runtime)
    await first.put("a", b"x")
    await second.put("a", b"x")
    assert first._caller._loan is not None
    assert second._caller._loan is not None
    assert first._caller._loan.client is second._caller._loan.client
    await first.aclose()
    await first.aclose()
    assert await read(second, "a") == b"x"
    assert await read(first, "a") == b"x"  # a closed storage opens anew


async def test_a_pickled_storage_opens_a_client_of_its_own(moto: S3Server, open_s3: OpenS3) -> None:
    storage = await open_s3(moto)
    await storage.put("a", b"x")
    text = pickle.dumps(storage)
    assert moto.secret_key.encode() not in text
    again = pickle.loads(text)
    try:
        assert again.root == storage.root
        assert await read(again, "a") == b"x"
    finally:
        await again.aclose()
        await again.runtime.aclose()


@pytest.mark.parametrize("checksum", ["md5", "crc32", "none"])
async def test_every_kind_of_checksum_is_taken_for_objects_and_parts(
    s3_server: S3Server, open_s3: OpenS3, checksum: str
) -> None:
    storage = await open_s3(s3_server, checksum=checksum)
    await storage.put("a", b"content")
    await storage.put("empty", b"")
    upload = await storage.create_multipart("b", part_size=5 * MIB)
    await upload.put_part(1, b"end")
    await upload.put_part(0, bytes(5 * MIB))
    await upload.complete()
    assert await read(storage, "a") == b"content"
    assert await read(storage, "empty") == b""
    assert await read(storage, "b") == bytes(5 * MIB) + b"end"
