"""The handle itself: its description, pickles, scopes, its end."""

from __future__ import annotations

import pickle

import anyio
import pytest

from asyncstore.errors import ObjectNotFoundError
from asyncstore.testing.conformance.helpers import read
from asyncstore.testing.harness import Harness


class HandleCases:
    """What a caller may do with a storage beside its verbs."""

    async def test_a_pickled_handle_goes_to_the_same_objects(self, harness: Harness) -> None:
        await harness.storage.put("object", b"x", attributes={"k": 1})
        restored = pickle.loads(pickle.dumps(harness.storage))
        try:
            assert (restored.TYPE, restored.root) == (harness.storage.TYPE, harness.storage.root)
            assert restored.multipart_limits == harness.storage.multipart_limits
            assert repr(restored) == repr(harness.storage)
            if harness.traits.can("shared by pickle"):
                assert await read(restored, "object") == b"x"
            await restored.put("other", b"y")
            assert await read(restored, "other") == b"y"
        finally:
            await restored.aclose()
            await restored.runtime.aclose()

    async def test_a_handle_that_has_worked_pickles_with_one_runtime(self, harness: Harness) -> None:
        await harness.storage.put("object", b"x")
        await read(harness.storage, "object")
        storage, again, runtime = pickle.loads(
            pickle.dumps((harness.storage, harness.storage, harness.storage.runtime))
        )
        assert storage is again
        assert storage.runtime is runtime
        assert runtime.limits == harness.storage.runtime.limits

    async def test_an_error_survives_a_pickle(self, harness: Harness) -> None:
        with pytest.raises(ObjectNotFoundError) as caught:
            await read(harness.storage, "missing")
        restored = pickle.loads(pickle.dumps(caught.value))
        assert type(restored) is ObjectNotFoundError
        assert (str(restored), restored.where, restored.operation) == (
            str(caught.value),
            caught.value.where,
            caught.value.operation,
        )

    async def test_a_handle_describes_itself(self, harness: Harness) -> None:
        storage = harness.storage
        assert storage.TYPE in {"local", "s3", "azure", "gs", "spin", "memory"}
        assert storage.root
        assert not storage.root.endswith("/")
        assert type(storage).__name__ in repr(storage)

    async def test_closing_twice_is_no_error_and_leaves_the_runtime_open(self, harness: Harness) -> None:
        await harness.storage.put("object", b"x")
        runtime = harness.storage.runtime
        await harness.storage.aclose()
        await harness.storage.aclose()
        assert await runtime.pool.run(lambda: 1) == 1

    async def test_a_body_holds_no_scope_of_the_caller_open(self, harness: Harness) -> None:
        await harness.storage.put("object", bytes(300_000))
        block = harness.storage.get("object")
        reader = await block.__aenter__()
        with anyio.CancelScope():
            async for _ in reader:
                break
            await block.__aexit__(None, None, None)
        await anyio.lowlevel.checkpoint()

    async def test_a_listing_holds_no_scope_of_the_caller_open(self, harness: Harness) -> None:
        await harness.storage.put("object", b"x")
        block = harness.storage.list("")
        found = await block.__aenter__()
        with anyio.CancelScope():
            async for _ in found:
                break
            await block.__aexit__(None, None, None)
        await anyio.lowlevel.checkpoint()
