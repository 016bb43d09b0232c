"""Blobs both ways between asyncstore and Metaflow's own content-addressed store, on local disk and on S3."""

from __future__ import annotations

import hashlib
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from asyncstore.cas.store import ContentAddressedStore
from asyncstore.layout import blob_path
from asyncstore.storage.base import DataStoreStorage
from asyncstore.storage.registry import open_storage
from asyncstore.types import MIB, Key
from tests.compat.metaflow_store import MetaflowStore
from tests.servers.start import S3Server

pytestmark = pytest.mark.servers

PREFIX = "Flow/data"
COMPRESSIBLE = b"".join(b"%d, " % number for number in range(600_000))  # about 4 MiB: several pieces
INCOMPRESSIBLE = random.Random(3).randbytes(3 * MIB + 1)
BLOBS = [b"", b"x", b"small and " * 10, COMPRESSIBLE, INCOMPRESSIBLE]
KEYS = [Key(hashlib.sha1(blob).hexdigest()) for blob in BLOBS]


@dataclass
class Pair:
    """The same place, as asyncstore and as Metaflow open it."""

    ours: DataStoreStorage
    theirs: MetaflowStore


@pytest.fixture(params=["local", "s3"])
async def pair(
    request: pytest.FixtureRequest, tmp_path: Path, metaflow_python: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Pair]:
    if request.param == "local":
        root, environ = str(tmp_path / "root"), {}
    else:
        server: S3Server = request.getfixturevalue("moto")
        root = f"s3://{server.make_bucket()}/some/root"
        environ = {**server.environ(), "METAFLOW_S3_ENDPOINT_URL": server.endpoint}
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
    async with open_storage(root) as storage:
        yield Pair(storage, MetaflowStore(metaflow_python, root, PREFIX, environ))


@pytest.mark.parametrize("raw", [False, True], ids=["gzip", "raw"])
async def test_metaflow_loads_what_asyncstore_saved(pair: Pair, raw: bool) -> None:
    store = ContentAddressedStore(PREFIX, pair.ours)
    saved = await store.save_blobs(BLOBS, raw=raw)
    assert [one.key for one in saved] == KEYS
    assert pair.theirs.load(KEYS) == dict(zip(KEYS, BLOBS, strict=True))


async def test_large_content_is_packed_and_incompressible_content_is_raw(pair: Pair) -> None:
    # What the test above stands on: otherwise it would not have seen both forms.
    await ContentAddressedStore(PREFIX, pair.ours).save_blobs(BLOBS)
    packed = await pair.ours.head(blob_path(PREFIX, KEYS[3]))
    raw = await pair.ours.head(blob_path(PREFIX, KEYS[4]))
    assert packed is not None
    assert raw is not None
    assert (packed.attributes["cas_raw"], packed.attributes["cas_version"]) == (False, 1)
    assert packed.size < len(COMPRESSIBLE) / 2
    assert (raw.attributes["cas_raw"], raw.size) == (True, len(INCOMPRESSIBLE))


@pytest.mark.parametrize("raw", [False, True], ids=["gzip", "raw"])
async def test_asyncstore_loads_what_metaflow_saved(pair: Pair, raw: bool) -> None:
    assert pair.theirs.save(BLOBS, raw=raw) == KEYS
    store = ContentAddressedStore(PREFIX, pair.ours)
    async with store.load_blobs(KEYS) as loaded:
        assert {key: blob async for key, blob in loaded} == dict(zip(KEYS, BLOBS, strict=True))


async def test_neither_writes_again_what_the_other_saved(pair: Pair) -> None:
    store = ContentAddressedStore(PREFIX, pair.ours)
    pair.theirs.save(BLOBS[:3])
    assert [one.existed for one in await store.save_blobs(BLOBS)] == [True, True, True, False, False]
    before = [await pair.ours.head(blob_path(PREFIX, key)) for key in KEYS]
    pair.theirs.save(BLOBS)
    assert [await pair.ours.head(blob_path(PREFIX, key)) for key in KEYS] == before
