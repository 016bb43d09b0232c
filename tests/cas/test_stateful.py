"""A state machine over the store with a dict as its model; each rule enters the loop through a portal."""

from __future__ import annotations

import gzip
from collections.abc import Awaitable, Callable, Iterable
from contextlib import ExitStack
from typing import TypeVar

import anyio
import anyio.lowlevel
import pytest
from anyio.from_thread import start_blocking_portal
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from asyncstore.cas.store import ContentAddressedStore
from asyncstore.errors import BlobNotFoundError, CorruptBlobError
from asyncstore.layout import blob_path, split_blob_path
from asyncstore.runtime import Runtime
from asyncstore.storage.memory import MemoryStorage
from asyncstore.types import Key, Limits
from tests.cas.content import Chunks, compressible, key_of, random_bytes
from tests.cas.plain import PlainStorage

T = TypeVar("T")

# Few, so that rules meet on the same keys.
NAMED = {
    "empty": b"",
    "short": b"short",
    "small packed": compressible(2000),
    "small raw": random_bytes(2000),
    "middle": random_bytes(270_000),
    "large": compressible(4_300_000),
}
CONTENTS = st.sampled_from(sorted(NAMED)).map(lambda name: NAMED[name])


class StoreMachine(RuleBasedStateMachine):
    """Saves, loads, damages, heals, loses and reopens."""

    keys = Bundle("keys")

    @initialize(batches=st.booleans(), codec=st.sampled_from(["gzip", "lz4"]))
    def open(self, batches: bool, codec: str) -> None:
        self.stack = ExitStack()
        self.portal = self.stack.enter_context(start_blocking_portal("asyncio"))
        self.runtime = Runtime(Limits(memory=3_000_000, threads=2))
        self.storage = (MemoryStorage if batches else PlainStorage)("machine", runtime=self.runtime)
        self.codec = codec
        self.contents: dict[Key, bytes] = {}
        self.stored: set[Key] = set()
        self.damaged: dict[Key, bool] = {}  # and whether a HEAD can see it
        self.reopen()

    def run(self, call: Callable[[], Awaitable[T]]) -> T:
        return self.portal.call(call)

    @rule()
    def reopen(self) -> None:
        self.store = ContentAddressedStore("F/data", self.storage, codec=self.codec)
        self.known: set[Key] = set()
        self.noticed: set[Key] = set()

    @rule(target=keys, contents=st.lists(CONTENTS, max_size=6), raw=st.booleans(), verify=st.booleans())
    def save(self, contents: list[bytes], raw: bool, verify: bool):
        sources = [Chunks(content) if len(content) == 270_000 else content for content in contents]
        saved = self.run(lambda: self.store.save_blobs(sources, raw=raw, verify_existing=verify))
        assert [one.key for one in saved] == [key_of(content) for content in contents]
        for content in contents:
            self.was_saved(key_of(content), content, verify=verify)
        return multiple(*(one.key for one in saved))

    @rule(key=keys, verify=st.booleans())
    def save_again(self, key: Key, verify: bool) -> None:
        content = self.contents[key]
        self.run(lambda: self.store.save_blob(content, verify_existing=verify))
        self.was_saved(key, content, verify=verify)
        self.check(key)

    def check(self, key: Key) -> None:
        """Compare one key with the model, without letting the store under test notice."""
        fresh = ContentAddressedStore("F/data", self.storage)
        expected = (key, key in self.stored and key not in self.damaged, key not in self.stored)
        assert self.run(lambda: statuses(fresh, [key])) == [expected]

    def was_saved(self, key: Key, content: bytes, *, verify: bool) -> None:
        self.contents[key] = content
        if key in self.known and not verify:
            return
        if key not in self.damaged or self.damaged[key] or key in self.noticed or verify:
            self.stored.add(key)
            self.damaged.pop(key, None)
        self.known.add(key)
        self.noticed.discard(key)

    @rule(key=keys)
    def load(self, key: Key) -> None:
        if key not in self.stored:
            with pytest.raises(BlobNotFoundError):
                self.run(lambda: self.store.load_blob(key))
            self.known.discard(key)
        elif key in self.damaged:
            with pytest.raises(CorruptBlobError):
                self.run(lambda: self.store.load_blob(key))
            self.known.discard(key)
            self.noticed.add(key)
        else:
            assert self.run(lambda: self.store.load_blob(key)) == self.contents[key]
            self.known.add(key)
            self.noticed.discard(key)

    @rule(wanted=st.lists(keys, max_size=8))
    def verify(self, wanted: list[Key]) -> None:
        expected = [(key, key in self.stored and key not in self.damaged, key not in self.stored) for key in wanted]
        assert sorted(self.run(lambda: statuses(self.store, wanted))) == sorted(expected)
        for key, ok, _ in expected:
            (self.known.add if ok else self.known.discard)(key)
            if ok:
                self.noticed.discard(key)
            elif key in self.stored:
                self.noticed.add(key)

    @rule(key=keys, visible=st.booleans(), noticed=st.booleans())
    def damage(self, key: Key, visible: bool, noticed: bool) -> None:
        if key not in self.stored:
            return
        path = blob_path("F/data", key)

        async def overwrite() -> None:
            meta = await self.storage.head(path)
            assert meta is not None
            size = len(self.contents[key])
            if visible:
                data = random_bytes(size + 1, seed=9) if meta.attributes["cas_raw"] else b""
            elif meta.attributes["cas_raw"]:
                data = bytes(byte ^ 0xFF for byte in self.contents[key])
            else:
                data = gzip.compress(random_bytes(size + 10, seed=9))
            await self.storage.put(path, data, attributes=meta.attributes)

        if visible or self.contents[key]:
            self.run(overwrite)
            self.damaged[key] = visible
        if noticed:
            self.load(key)

    @rule(key=keys)
    def lose(self, key: Key) -> None:
        self.run(lambda: self.storage.delete(blob_path("F/data", key)))
        self.stored.discard(key)
        self.damaged.pop(key, None)

    @rule(contents=st.lists(CONTENTS, max_size=4), turns=st.integers(0, 12))
    def cancel_a_save(self, contents: list[bytes], turns: int) -> None:
        async def cancelled() -> None:
            async with anyio.create_task_group() as group:
                group.start_soon(ContentAddressedStore("F/data", self.storage).save_blobs, contents)
                for _ in range(turns):
                    await anyio.lowlevel.checkpoint()
                group.cancel_scope.cancel()

        self.run(cancelled)
        keys = {key_of(content): content for content in contents}
        fresh = ContentAddressedStore("F/data", self.storage)
        for key, ok, absent in self.run(lambda: statuses(fresh, keys)):
            self.contents[key] = keys[key]
            if ok:
                self.stored.add(key)
                self.damaged.pop(key, None)
            elif absent:
                assert key not in self.stored
            else:
                assert key in self.damaged

    @invariant()
    def nothing_is_borrowed(self) -> None:
        if hasattr(self, "runtime"):
            assert self.runtime.memory.used == 0
            assert self.runtime.requests.available == self.runtime.limits.requests

    @invariant()
    def the_storage_holds_the_keys_of_the_model(self) -> None:
        if hasattr(self, "runtime"):
            assert self.run(lambda: listed(self.storage)) == self.stored

    def teardown(self) -> None:
        if hasattr(self, "stack"):
            self.run(self.runtime.aclose)
            self.stack.close()


async def statuses(store: ContentAddressedStore, keys: Iterable[Key]) -> list[tuple[Key, bool, bool]]:
    async with store.verify_blobs(keys) as found:
        return [(status.key, status.ok, isinstance(status.error, BlobNotFoundError)) async for status in found]


async def listed(storage: MemoryStorage) -> set[Key]:
    async with storage.list("", recursive=True) as entries:
        found = [split_blob_path(entry.path) async for entry in entries]
    return {key for _, key in filter(None, found)}


@pytest.mark.parametrize("examples", [25, pytest.param(500, marks=pytest.mark.slow)])
def test_the_store_behaves_as_a_dict_that_can_be_damaged_and_healed(examples: int) -> None:
    run_state_machine_as_test(
        StoreMachine,
        settings=settings(max_examples=examples, stateful_step_count=30, deadline=None),
    )
