"""Ranges of a body, the ways to read it, and the etag it must match."""

from __future__ import annotations

import pytest

from asyncstore.errors import PreconditionFailedError
from asyncstore.testing.conformance.helpers import noise, read
from asyncstore.testing.harness import Harness
from asyncstore.types import ByteRange

_SIZE = 100_003
_RANGES = [
    (0, None), (0, 1), (0, _SIZE), (0, _SIZE + 1), (0, 10**12), (1, 2), (1, None), (_SIZE - 1, None),
    (_SIZE - 1, _SIZE), (_SIZE - 1, _SIZE + 5), (_SIZE, None), (_SIZE, _SIZE + 1), (_SIZE + 7, _SIZE + 9),
    (10**12, None), (65_535, 65_537), (1000, 99_000),
]  # fmt: skip


class RangeCases:
    """Start inclusive, stop exclusive, as a slice."""

    @pytest.mark.parametrize(("start", "stop"), _RANGES)
    async def test_a_range_is_a_slice_of_the_object(self, harness: Harness, start: int, stop: int | None) -> None:
        data = noise(_SIZE)
        await harness.storage.put("object", data)
        async with harness.storage.get("object", byte_range=ByteRange(start, stop)) as reader:
            assert reader.meta.size == _SIZE
            body = b"".join([chunk async for chunk in reader])
        assert body == data[start:stop]

    @pytest.mark.parametrize(("start", "stop"), [(0, None), (0, 1), (5, 9)])
    async def test_a_range_of_an_empty_object_is_empty(self, harness: Harness, start: int, stop: int | None) -> None:
        await harness.storage.put("object", b"")
        assert await read(harness.storage, "object", byte_range=ByteRange(start, stop)) == b""

    async def test_a_range_of_one_byte_object(self, harness: Harness) -> None:
        await harness.storage.put("object", b"x")
        assert await read(harness.storage, "object", byte_range=ByteRange(0)) == b"x"
        assert await read(harness.storage, "object", byte_range=ByteRange(1)) == b""

    async def test_a_range_comes_with_etag_and_attributes(self, harness: Harness) -> None:
        put = await harness.storage.put("object", b"0123456789", attributes={"k": "ä"})
        async with harness.storage.get("object", byte_range=ByteRange(2, 4)) as reader:
            assert reader.meta.etag == put.etag
            assert dict(reader.meta.attributes) == {"k": "ä"}

    async def test_no_chunk_is_empty(self, harness: Harness) -> None:
        await harness.storage.put("object", noise(1_000_000))
        async with harness.storage.get("object") as reader:
            assert all([len(chunk) > 0 async for chunk in reader])

    @pytest.mark.parametrize("step", [1000, 65_536, 99_999, _SIZE, _SIZE + 1, 10 * _SIZE])
    async def test_a_buffer_is_filled_whole_until_the_end(self, harness: Harness, step: int) -> None:
        data = noise(_SIZE)
        await harness.storage.put("object", data)
        parts: list[bytes] = []
        async with harness.storage.get("object") as reader:
            while True:
                target = bytearray(step)
                size = await reader.read_into(memoryview(target))
                parts.append(bytes(target[:size]))
                if size < step:
                    break
            assert await reader.read_into(memoryview(bytearray(10))) == 0
        assert b"".join(parts) == data
        assert all(len(part) == step for part in parts[:-1])

    async def test_a_range_fills_a_buffer(self, harness: Harness) -> None:
        await harness.storage.put("object", b"0123456789")
        target = bytearray(b"-" * 8)
        async with harness.storage.get("object", byte_range=ByteRange(3, 7)) as reader:
            assert await reader.read_into(memoryview(target)[1:]) == 4
        assert target == b"-3456---"

    async def test_filling_and_iterating_read_one_stream(self, harness: Harness) -> None:
        data = noise(_SIZE)
        await harness.storage.put("object", data)
        start = bytearray(10)
        async with harness.storage.get("object") as reader:
            assert await reader.read_into(memoryview(start)) == 10
            rest = b"".join([chunk async for chunk in reader])
        assert bytes(start) + rest == data

    async def test_a_body_need_not_be_read_to_its_end(self, harness: Harness) -> None:
        data = noise(3_000_000)
        await harness.storage.put("object", data)
        for _ in range(3):
            async with harness.storage.get("object") as reader:
                async for chunk in reader:
                    assert data.startswith(chunk)
                    break
            async with harness.storage.get("object"):
                pass
        assert await read(harness.storage, "object") == data

    async def test_an_error_inside_the_block_comes_out_of_it(self, harness: Harness) -> None:
        await harness.storage.put("object", noise(300_000))
        error = LookupError("of the caller")
        with pytest.raises(LookupError) as caught:
            await _fail_inside(harness, error)
        assert caught.value is error

    async def test_the_etag_that_matches_lets_one_read(self, harness: Harness) -> None:
        meta = await harness.storage.put("object", b"0123456789")
        assert await read(harness.storage, "object", if_match=meta.etag) == b"0123456789"
        assert await read(harness.storage, "object", if_match=meta.etag, byte_range=ByteRange(8)) == b"89"

    async def test_another_object_does_not_match(self, harness: Harness) -> None:
        old = await harness.storage.put("object", b"old")
        await harness.storage.put("object", b"another")
        for byte_range in (None, ByteRange(1, 2)):
            with pytest.raises(PreconditionFailedError) as caught:
                await read(harness.storage, "object", if_match=old.etag, byte_range=byte_range)
            assert "object" in str(caught.value)
            assert not caught.value.retryable

    async def test_an_open_body_is_whole_or_fails_when_its_object_is_replaced(self, harness: Harness) -> None:
        data = noise(2_000_000, 1)
        await harness.storage.put("object", data)
        body = b""
        async with harness.storage.get("object") as reader:
            chunks = aiter(reader)
            body += await anext(chunks)
            await harness.storage.put("object", noise(2_000_000, 2))
            try:
                async for chunk in chunks:
                    body += chunk
            except PreconditionFailedError:
                return
        assert body == data


async def _fail_inside(harness: Harness, error: Exception) -> None:
    async with harness.storage.get("object") as reader:
        async for _ in reader:
            raise error
