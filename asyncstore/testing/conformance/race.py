"""Writers that meet. A race is run many times, with bodies large enough to overlap."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import anyio

from asyncstore.errors import AlreadyExistsError, NotFoundError, PreconditionFailedError, StorageUnavailableError
from asyncstore.testing.conformance.helpers import noise, part_size, read
from asyncstore.testing.harness import Harness
from asyncstore.types import ObjectMeta

WRITERS = 6


async def _winners(writers: list[Callable[[], Awaitable[ObjectMeta]]]) -> list[int]:
    """Start all writers at once and return the numbers of those that were not refused."""
    won: list[int] = []
    start = anyio.Event()

    async def run(number: int) -> None:
        await start.wait()
        try:
            await writers[number]()
        except AlreadyExistsError:
            return
        won.append(number)

    async with anyio.create_task_group() as group:
        for number in range(len(writers)):
            group.start_soon(run, number)
        start.set()
    return won


class RaceCases:
    """Of many, one wins; none is mixed with another."""

    async def test_of_concurrent_creates_one_wins(self, harness: Harness) -> None:
        for round_ in range(harness.traits.rounds):
            path = f"race/{round_}"
            bodies = [noise(harness.traits.race_bytes, number) for number in range(WRITERS)]

            create = partial(harness.storage.put, path, mode="create")
            won = await _winners([partial(create, body, attributes={"writer": n}) for n, body in enumerate(bodies)])
            body = await read(harness.storage, path)
            head = await harness.storage.head(path)
            assert head is not None
            assert body == bodies[int(str(head.attributes["writer"]))]
            if harness.traits.can("atomic create"):
                assert [bodies[number] for number in won] == [body]
            else:
                assert won

    async def test_of_concurrent_creates_by_parts_one_wins(self, harness: Harness) -> None:
        size = part_size(harness.storage)
        for round_ in range(max(3, harness.traits.rounds // 4)):
            path = f"race/{round_}"
            handles = [
                await harness.storage.create_multipart(path, part_size=size, mode="create") for _ in range(WRITERS)
            ]
            for number, handle in enumerate(handles):
                await handle.put_part(0, noise(size, number))
            won = await _winners([handle.complete for handle in handles])
            body = await read(harness.storage, path)
            assert body in [noise(size, number) for number in range(WRITERS)]
            if harness.traits.can("atomic create by parts"):
                assert [noise(size, number) for number in won] == [body]
            for handle in handles:
                await handle.abort()

    async def test_concurrent_overwrites_leave_one_whole_object(self, harness: Harness) -> None:
        for round_ in range(harness.traits.rounds):
            path = f"race/{round_}"
            bodies = [noise(harness.traits.race_bytes // (number + 1), number) for number in range(WRITERS)]
            write = partial(harness.storage.put, path)
            won = await _winners([partial(write, body, attributes={"writer": n}) for n, body in enumerate(bodies)])
            assert sorted(won) == list(range(WRITERS))
            head = await harness.storage.head(path)
            assert head is not None
            assert await read(harness.storage, path) == bodies[int(str(head.attributes["writer"]))]

    async def test_readers_see_one_whole_object_while_it_is_replaced(self, harness: Harness) -> None:
        bodies = {noise(harness.traits.race_bytes, number) for number in range(2)}
        await harness.storage.put("object", noise(harness.traits.race_bytes, 0))
        done = anyio.Event()

        async def write() -> None:
            for round_ in range(harness.traits.rounds):
                await harness.storage.put("object", noise(harness.traits.race_bytes, round_ % 2))
            done.set()

        async def look() -> None:
            while not done.is_set():
                try:
                    body = await read(harness.storage, "object")
                except PreconditionFailedError:
                    continue  # replaced under a body that was being resumed: said, not hidden
                except StorageUnavailableError:
                    assert not whole
                else:
                    assert body in bodies or not whole

        whole = harness.traits.can("whole reads")
        async with anyio.create_task_group() as group:
            group.start_soon(write)
            for _ in range(3):
                group.start_soon(look)
        assert await read(harness.storage, "object") in bodies

    async def test_an_object_that_is_never_deleted_is_never_absent(self, harness: Harness) -> None:
        await harness.storage.put("object", b"x")
        done = anyio.Event()

        async def write() -> None:
            for round_ in range(harness.traits.rounds):
                await harness.storage.put("object", noise(1000, round_))
            done.set()

        async def look() -> None:
            while not done.is_set():
                assert await harness.storage.head("object") is not None

        async with anyio.create_task_group() as group:
            group.start_soon(write)
            group.start_soon(look)

    async def test_delete_and_create_side_by_side_leave_a_whole_object_or_none(self, harness: Harness) -> None:
        body = noise(harness.traits.race_bytes)
        for _ in range(harness.traits.rounds):

            async def create() -> None:
                try:
                    await harness.storage.put("object", body, attributes={"k": 1}, mode="create")
                except AlreadyExistsError:
                    return

            async with anyio.create_task_group() as group:
                group.start_soon(create)
                group.start_soon(harness.storage.delete, "object")
            head = await harness.storage.head("object")
            try:
                found: bytes | None = await read(harness.storage, "object")
            except NotFoundError:
                found = None
            assert (head is not None) == (found is not None)
            assert found in {None, body}
            assert head is None or dict(head.attributes) == {"k": 1}
