"""``put`` replaces or creates a whole object."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from asyncstore.errors import AlreadyExistsError, StorageError
from asyncstore.testing.conformance.helpers import entries, names, noise, read
from asyncstore.testing.harness import Harness
from asyncstore.types import Buffer

_BUFFERS: list[Callable[[bytes], Buffer]] = [
    bytes,
    bytearray,
    memoryview,
    lambda data: memoryview(bytearray(b"before" + data + b"after"))[6 : 6 + len(data)],
]


class WriteCases:
    """What is put is what is read, and modes are kept."""

    @pytest.mark.parametrize("size", [0, 1, 2, 4095, 65_536, 65_537, 262_145, 1_048_577])
    async def test_an_object_of_any_size_comes_back_equal(self, harness: Harness, size: int) -> None:
        data = noise(size)
        meta = await harness.storage.put("a/object", data)
        assert meta.size == size
        assert await read(harness.storage, "a/object") == data

    async def test_every_value_of_a_byte_survives(self, harness: Harness) -> None:
        data = bytes(range(256)) + b"\r\n\x00\x1a\n"
        await harness.storage.put("bytes", data)
        assert await read(harness.storage, "bytes") == data

    @pytest.mark.parametrize("form", range(len(_BUFFERS)))
    async def test_any_buffer_can_be_put(self, harness: Harness, form: int) -> None:
        await harness.storage.put("buffer", _BUFFERS[form](b"content"))
        assert await read(harness.storage, "buffer") == b"content"

    async def test_a_buffer_is_the_callers_again_when_put_returns(self, harness: Harness) -> None:
        buffer = bytearray(noise(10_000))
        before = bytes(buffer)
        await harness.storage.put("buffer", buffer)
        buffer[:] = bytes(len(buffer))
        buffer.append(1)  # refused if somebody still exports it
        assert await read(harness.storage, "buffer") == before

    async def test_put_head_get_and_list_agree_on_an_object(self, harness: Harness) -> None:
        put = await harness.storage.put("d/object", b"12345", attributes={"k": 1})
        head = await harness.storage.head("d/object")
        async with harness.storage.get("d/object") as reader:
            got = reader.meta
        [listed] = await entries(harness.storage, "d")
        assert head is not None
        assert put.size == head.size == got.size == listed.size == 5
        assert put.etag == head.etag == got.etag
        assert head.etag
        assert dict(put.attributes) == dict(head.attributes) == dict(got.attributes) == {"k": 1}

    async def test_the_time_of_a_write_is_known_with_its_zone(self, harness: Harness) -> None:
        await harness.storage.put("object", b"x")
        head = await harness.storage.head("object")
        assert head is not None
        assert head.modified is not None
        assert abs(datetime.now(UTC) - head.modified) < timedelta(minutes=5)

    async def test_an_overwrite_replaces_the_whole_content(self, harness: Harness) -> None:
        await harness.storage.put("object", noise(100_000, 1))
        await harness.storage.put("object", b"short")
        assert await read(harness.storage, "object") == b"short"
        head = await harness.storage.head("object")
        assert head is not None
        assert head.size == 5

    async def test_the_etag_changes_with_the_content(self, harness: Harness) -> None:
        etags = {(await harness.storage.put("object", noise(1000, seed))).etag for seed in range(5)}
        assert len(etags) == 5

    async def test_the_etag_stays_while_the_object_stays(self, harness: Harness) -> None:
        await harness.storage.put("object", b"x")
        await harness.storage.put("other", b"y")
        heads = [await harness.storage.head("object") for _ in range(2)]
        assert heads[0] is not None
        assert heads[0] == heads[1]

    async def test_create_stores_what_is_not_there(self, harness: Harness) -> None:
        meta = await harness.storage.put("new/object", b"x", attributes={"k": 1}, mode="create")
        assert meta.size == 1
        assert await read(harness.storage, "new/object") == b"x"

    async def test_create_leaves_an_object_alone(self, harness: Harness) -> None:
        before = await harness.storage.put("object", b"first", attributes={"k": 1})
        with pytest.raises(AlreadyExistsError) as caught:
            await harness.storage.put("object", b"second", attributes={"k": 2}, mode="create")
        assert "object" in str(caught.value)
        assert not caught.value.retryable
        head = await harness.storage.head("object")
        assert head is not None
        assert (head.etag, dict(head.attributes)) == (before.etag, {"k": 1})
        assert await read(harness.storage, "object") == b"first"

    async def test_create_refuses_equal_content_and_empty_objects_too(self, harness: Harness) -> None:
        await harness.storage.put("empty", b"")
        with pytest.raises(AlreadyExistsError):
            await harness.storage.put("empty", b"", mode="create")

    async def test_create_succeeds_after_a_delete(self, harness: Harness) -> None:
        await harness.storage.put("object", b"first")
        await harness.storage.delete("object")
        await harness.storage.put("object", b"second", mode="create")
        assert await read(harness.storage, "object") == b"second"

    async def test_directories_need_not_be_made(self, harness: Harness) -> None:
        path = "/".join("abcdefghijklmnop")
        await harness.storage.put(path, b"deep")
        assert await read(harness.storage, path) == b"deep"

    async def test_a_put_stores_one_object_and_nothing_else(self, harness: Harness) -> None:
        await harness.storage.put("d/object", b"x", attributes={"k": 1})
        await harness.storage.put("d/object", b"y")
        assert {path for path in await harness.raw.paths() if not path.startswith(".asyncstore/")} == {"d/object"}

    @pytest.mark.parametrize("mode", ["overwrite", "create"])
    async def test_a_path_is_never_both_object_and_directory(self, harness: Harness, mode: str) -> None:
        await harness.storage.put("object", b"x")
        await harness.storage.put("directory/object", b"y")
        for path in ("object/below", "directory"):
            if harness.traits.can("exclusive names"):
                with pytest.raises(StorageError) as caught:
                    await harness.storage.put(path, b"z", mode=mode)  # type: ignore[arg-type]  # pytest's str  # pyright: ignore[reportArgumentType]
                assert path.partition("/")[0] in str(caught.value)
                assert not caught.value.retryable
        assert await read(harness.storage, "object") == b"x"
        assert await read(harness.storage, "directory/object") == b"y"
        assert await names(harness.storage) == [("directory", "directory"), ("object", "object")]
