"""Many calls at once on one storage."""

from __future__ import annotations

import anyio

from asyncstore.testing.conformance.helpers import names, noise, nothing_borrowed, read
from asyncstore.testing.harness import Harness

CALLS = 64


class ConcurrencyCases:
    """Calls do not disturb each other, and give back what they borrow."""

    async def test_64_puts_and_gets_run_at_once(self, harness: Harness) -> None:
        async def work(number: int) -> None:
            data = noise(1000 + number, number)
            await harness.storage.put(f"d/{number:02d}", data, attributes={"n": number})
            assert await read(harness.storage, f"d/{number:02d}") == data

        async with anyio.create_task_group() as group:
            for number in range(CALLS):
                group.start_soon(work, number)
        assert await names(harness.storage, "d") == [("object", f"d/{number:02d}") for number in range(CALLS)]
        await nothing_borrowed(harness)

    async def test_64_readers_share_one_object(self, harness: Harness) -> None:
        data = noise(150_000)
        await harness.storage.put("object", data)

        async def work() -> None:
            assert await read(harness.storage, "object") == data

        async with anyio.create_task_group() as group:
            for _ in range(CALLS):
                group.start_soon(work)
        await nothing_borrowed(harness)

    async def test_all_verbs_run_side_by_side(self, harness: Harness) -> None:
        async def work(number: int) -> None:
            path = f"d{number % 4}/{number}"
            assert await harness.storage.head(path) is None
            await harness.storage.put(path, noise(500, number))
            assert ("object", path) in await names(harness.storage, path.partition("/")[0])
            await harness.storage.delete(path)
            assert await harness.storage.head(path) is None

        async with anyio.create_task_group() as group:
            for number in range(CALLS // 2):
                group.start_soon(work, number)
        assert await names(harness.storage, recursive=True) == []
        await nothing_borrowed(harness)

    async def test_bodies_are_open_side_by_side(self, harness: Harness) -> None:
        for number in range(8):
            await harness.storage.put(f"{number}", noise(300_000, number))

        async def follow(number: int) -> None:
            if number < 8:
                async with harness.storage.get(f"{number}") as reader:
                    await follow(number + 1)
                    assert b"".join([chunk async for chunk in reader]) == noise(300_000, number)

        await follow(0)
        await nothing_borrowed(harness)

    async def test_one_failure_does_not_disturb_the_others(self, harness: Harness) -> None:
        await harness.storage.put("object", b"x")

        async def fail(number: int) -> None:
            try:
                await read(harness.storage, f"missing/{number}")
            except LookupError:
                return
            raise AssertionError

        async def succeed() -> None:
            assert await read(harness.storage, "object") == b"x"

        async with anyio.create_task_group() as group:
            for number in range(CALLS // 2):
                group.start_soon(fail, number)
                group.start_soon(succeed)
        await nothing_borrowed(harness)
