"""Carrying metadata through a datastore: what is packed, what is merged, what is refused."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import pytest

from asyncstore.errors import MetadataError
from asyncstore.metadata import sync
from asyncstore.metadata.base import fetch_objects
from asyncstore.metadata.local import LocalMetadataProvider
from asyncstore.metadata.records import DataArtifactRecord, MetaDatum
from asyncstore.metadata.safe_tar import TarLimits
from asyncstore.metadata.sync import (
    MergeResult,
    sync_local_metadata_from_datastore,
    sync_local_metadata_to_datastore,
)
from asyncstore.metadata.system import SystemInfo
from asyncstore.runtime import Runtime
from asyncstore.types import Json, Key
from tests.golden import extract_all

FLOW = "CarriedFlow"
SYSTEM = SystemInfo("tester")
SELF = {"run_number": "1", "flow_id": FLOW, "user_name": "u", "tags": [], "system_tags": [], "ts_epoch": 1}


@dataclass
class Saved:
    key: Key


@dataclass
class FakeStore:
    """A flow's blobs and one attempt's metadata files."""

    blobs: dict[Key, bytes] = field(default_factory=dict)
    files: dict[str, Json] = field(default_factory=dict)
    raw: list[bool] = field(default_factory=list)

    async def save_blob(self, blob: bytes, *, raw: bool = False) -> Saved:
        self.raw.append(raw)
        key = Key(hashlib.sha1(blob).hexdigest())
        self.blobs[key] = blob
        return Saved(key)

    async def load_blob(self, key: Key) -> bytes:
        return self.blobs[key]

    async def save_metadata_after_done(self, contents: Mapping[str, Json]) -> None:
        assert all(key in self.blobs for key in contents.values())  # the blob before the file that names it
        self.files.update(contents)

    async def load_metadata(self, names: Iterable[str]) -> Mapping[str, Any]:
        return {name: self.files.get(name) for name in names}


@pytest.fixture
async def runtime() -> AsyncIterator[Runtime]:
    async with Runtime() as runtime:
        yield runtime


@pytest.fixture
def here(tmp_path: Path) -> Path:
    return tmp_path / "here" / ".metaflow"


@pytest.fixture
def there(tmp_path: Path) -> Path:
    return tmp_path / "there" / ".metaflow"


async def run_task_elsewhere(root: Path, run: str, task: str) -> None:
    async with LocalMetadataProvider(root, system=SYSTEM, partial=True) as provider:
        await provider.register_task_id(FLOW, run, "start", task)
        await provider.register_metadata(
            FLOW, run, "start", task, [MetaDatum("attempt-done", "0", "attempt-done", ("attempt_id:0",))]
        )
        record = DataArtifactRecord("x", "s3", "s3://b/root", None, "pickle-v4", "0" * 40)
        await provider.register_data_artifacts(FLOW, run, "start", task, attempt=0, artifacts=[record])


async def test_metadata_of_a_task_that_ran_elsewhere_arrives_where_its_run_is_registered(
    here: Path, there: Path, runtime: Runtime
) -> None:
    store = FakeStore()
    async with LocalMetadataProvider(here, system=SYSTEM) as provider:
        run = await provider.new_run_id(FLOW, tags=["t"])
        task = await provider.new_task_id(FLOW, run, "start")
        await run_task_elsewhere(there, run, task)
        key = await sync_local_metadata_to_datastore(there, FLOW, run, blobs=store, task=store, runtime=runtime)
        assert store.files == {"local_metadata": key}
        assert store.raw == [True]
        result = await sync_local_metadata_from_datastore(here, blobs=store, task=store, runtime=runtime)
        assert result == MergeResult(written=6, kept=0, ignored=0)
        [found] = await fetch_objects(provider, "artifact", FLOW, run, "start", task)
        assert found.tags == {"t"}
        rows = await fetch_objects(provider, "metadata", FLOW, run, "start", task)
        assert len([row for row in rows if row.datum and row.datum.field == "runtime"]) == 2
        again = await sync_local_metadata_from_datastore(here, blobs=store, task=store, runtime=runtime)
        assert again == MergeResult(written=0, kept=6, ignored=0)


async def test_only_records_travel(here: Path, there: Path, runtime: Runtime) -> None:
    store = FakeStore()
    async with LocalMetadataProvider(there, system=SYSTEM) as provider:
        run, other = await provider.new_run_id(FLOW), await provider.new_run_id(FLOW)
        task = await provider.new_task_id(FLOW, run, "start")
        await provider.write_latest_run(FLOW, run)
    (there / FLOW / "data/00").mkdir(parents=True)
    for odd in (f"{FLOW}/data/00/{'0' * 40}", f"{FLOW}/{run}/start/{task}/0.DONE.lock", f"{FLOW}/{run}/_meta/.lock"):
        (there / odd).write_text("x")
    await sync_local_metadata_to_datastore(there, FLOW, run, blobs=store, task=store, runtime=runtime)
    [archive] = store.blobs.values()
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        names = tar.getnames()
    assert f".metaflow/{FLOW}/_meta/_self.json" in names
    assert f".metaflow/{FLOW}/{run}/start/{task}/_meta/_self.json" in names
    assert all("/_meta/" in name and not name.rpartition("/")[2].startswith(".") for name in names)
    assert not any(other in name for name in names)


async def test_what_metaflow_would_unpack_has_its_names_and_times(
    there: Path, runtime: Runtime, tmp_path: Path
) -> None:
    store = FakeStore()
    await run_task_elsewhere(there, "7", "3")
    await sync_local_metadata_to_datastore(there, FLOW, "7", blobs=store, task=store, runtime=runtime)
    [archive] = store.blobs.values()
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
        extract_all(tar, tmp_path / "out")
    for packed in there.rglob("*.json"):
        unpacked = tmp_path / "out/.metaflow" / packed.relative_to(there)
        assert unpacked.read_bytes() == packed.read_bytes()
        assert unpacked.stat().st_mtime == pytest.approx(packed.stat().st_mtime, abs=0.001)


async def test_a_task_that_packed_nothing_gives_none(here: Path, runtime: Runtime) -> None:
    store = FakeStore()
    assert await sync_local_metadata_from_datastore(here, blobs=store, task=store, runtime=runtime) is None
    assert not here.exists()


async def test_nothing_to_pack_is_an_error(there: Path, runtime: Runtime) -> None:
    store = FakeStore()
    with pytest.raises(MetadataError, match="no metadata of"):
        await sync_local_metadata_to_datastore(there, FLOW, "7", blobs=store, task=store, runtime=runtime)
    assert store == FakeStore()


@pytest.mark.parametrize("key", ["nonsense", 5, ["x"]])
async def test_a_metadata_file_without_a_key_is_an_error(here: Path, runtime: Runtime, key: Json) -> None:
    store = FakeStore(files={"local_metadata": key})
    with pytest.raises(MetadataError, match="no key of a blob"):
        await sync_local_metadata_from_datastore(here, blobs=store, task=store, runtime=runtime)


RECORD = f".metaflow/{FLOW}/1/_meta/_self.json"


def packed(*members: tuple[str, Any], mtime: float = 2_000_000_000.0) -> FakeStore:
    """Return a store with an archive of members: a name, and bytes or what changes the member."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", format=tarfile.PAX_FORMAT) as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.mtime = mtime
            if isinstance(content, bytes):
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
            else:
                content(member)
                tar.addfile(member)
    return of_archive(buffer.getvalue())


def of_archive(archive: bytes) -> FakeStore:
    key = Key(hashlib.sha1(archive).hexdigest())
    return FakeStore({key: archive}, {"local_metadata": key})


def a(kind: bytes, target: str = "") -> Callable[[tarfile.TarInfo], None]:
    def change(member: tarfile.TarInfo) -> None:
        member.type, member.linkname = kind, target

    return change


GOOD = (RECORD, json.dumps(SELF).encode())


@pytest.mark.parametrize(
    "bad",
    [
        ("/etc/passwd", b"x"),
        ("../outside", b"x"),
        (".metaflow/../../outside", b"x"),
        (f".metaflow/{FLOW}/../../outside/_meta/_self.json", b"x"),
        (".metaflow\\..\\outside", b"x"),
        ("C:/outside", b"x"),
        (".metaflow/link", a(tarfile.SYMTYPE, "/etc")),
        (".metaflow/link", a(tarfile.SYMTYPE, "inside")),
        (".metaflow/hard", a(tarfile.LNKTYPE, RECORD)),
        (".metaflow/device", a(tarfile.CHRTYPE)),
        (".metaflow/block", a(tarfile.BLKTYPE)),
        (".metaflow/pipe", a(tarfile.FIFOTYPE)),
    ],
    ids=lambda member: str(member[0]),
)
async def test_an_archive_with_a_harmful_member_is_refused_whole(
    here: Path, runtime: Runtime, tmp_path: Path, bad: tuple[str, Any]
) -> None:
    before = sorted(tmp_path.rglob("*"))
    for members in ((bad, GOOD), (GOOD, bad)):
        store = packed(*members)
        with pytest.raises(MetadataError, match="refused, nothing was unpacked"):
            await sync_local_metadata_from_datastore(here, blobs=store, task=store, runtime=runtime)
        assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("time", ["nan", "inf", "1e300", "-1e300"])
async def test_an_archive_with_a_time_that_is_none_is_refused(here: Path, runtime: Runtime, time: str) -> None:
    def change(member: tarfile.TarInfo) -> None:
        member.pax_headers = {"mtime": time}

    store = packed(GOOD, (".metaflow/OtherFlow/_meta/_self.json", change))
    with pytest.raises(MetadataError, match=r"refused, nothing was unpacked.* has a time that is none"):
        await sync_local_metadata_from_datastore(here, blobs=store, task=store, runtime=runtime)
    assert not here.exists()


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (TarLimits(members=3), "one more than the 3"),
        (TarLimits(member=100), "at most 100"),
        (TarLimits(total=1000), "larger than the 1000"),
    ],
)
async def test_an_archive_beyond_the_limits_is_refused(
    here: Path, runtime: Runtime, limits: TarLimits, reason: str
) -> None:
    store = packed(*((f".metaflow/{FLOW}/{number}/_meta/_self.json", b"x" * 400) for number in range(4)))
    with pytest.raises(MetadataError, match=reason):
        await sync_local_metadata_from_datastore(here, blobs=store, task=store, runtime=runtime, limits=limits)
    assert not here.exists()


def bomb_of_zeros() -> bytes:
    """One member that claims little, and a header before it that unpacks to 300 MB."""
    name = tarfile.TarInfo("././@LongLink")
    name.type, name.size = tarfile.GNUTYPE_LONGNAME, 300_000_000
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", compresslevel=9) as packed:
        packed.write(name.tobuf(tarfile.GNU_FORMAT))
        for _ in range(300):
            packed.write(b"a" * 1_000_000)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "archive",
    [
        b"",
        b"not an archive",
        gzip.compress(b"not a tar either"),
        gzip.compress(b"x" * 5000)[:-20],
        b"\x1f\x8b" + b"\0" * 50,
    ],
)
async def test_a_damaged_archive_is_one_clear_error(here: Path, runtime: Runtime, archive: bytes) -> None:
    store = of_archive(archive)
    with pytest.raises(MetadataError, match="it is damaged"):
        await sync_local_metadata_from_datastore(here, blobs=store, task=store, runtime=runtime)


async def test_a_header_that_unpacks_to_hundreds_of_megabytes_is_cut_off(here: Path, runtime: Runtime) -> None:
    store = of_archive(bomb_of_zeros())
    limits = TarLimits(members=100, total=1_000_000)
    with pytest.raises(MetadataError, match="more than is allowed"):
        await sync_local_metadata_from_datastore(here, blobs=store, task=store, runtime=runtime, limits=limits)


async def test_a_newer_record_replaces_one_in_place_and_an_older_one_does_not(here: Path, runtime: Runtime) -> None:
    target = here / FLOW / "1/_meta/_self.json"
    for mtime, written in ((1000.5, 1), (1000.25, 0), (1000.5, 0), (1000.75, 1)):
        store = packed((RECORD, str(mtime).encode()), mtime=mtime)
        result = await sync_local_metadata_from_datastore(here, blobs=store, task=store, runtime=runtime)
        assert result == MergeResult(written=written, kept=1 - written, ignored=0)
    assert target.read_text() == "1000.75"
    assert target.stat().st_mtime == 1000.75


async def test_what_is_no_record_is_ignored(here: Path, runtime: Runtime) -> None:
    store = packed(
        GOOD,
        (f"./.metaflow/{FLOW}/_meta/_self.json", b"{}"),
        (f".metaflow/{FLOW}/1", a(tarfile.DIRTYPE)),
        (f".metaflow/{FLOW}/data/00/{'0' * 40}", b"blob"),
        (f".metaflow/{FLOW}/1/start/2/0.DONE.lock", b""),
        (f".metaflow/{FLOW}/1/_meta/.hidden", b""),
        (f".metaflow/{FLOW}/data/_meta/_self.json", b""),
        (".metaflow/.asyncstore/_meta/_self.json", b""),
        (".metaflow/_meta/_self.json", b""),
        (".metaflow/a/b/c/d/e/_meta/_self.json", b""),
        ("elsewhere/F/_meta/_self.json", b""),
    )
    result = await sync_local_metadata_from_datastore(here, blobs=store, task=store, runtime=runtime)
    assert result == MergeResult(written=2, kept=0, ignored=8)
    assert sorted(path.relative_to(here).as_posix() for path in here.rglob("*") if path.is_file()) == [
        f"{FLOW}/1/_meta/_self.json",
        f"{FLOW}/_meta/_self.json",
    ]


@pytest.mark.parametrize("link", [FLOW, f"{FLOW}/1", f"{FLOW}/1/_meta", f"{FLOW}/1/_meta/_self.json"])
async def test_a_link_in_place_does_not_lead_a_record_elsewhere(
    here: Path, runtime: Runtime, tmp_path: Path, link: str
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (here / link).parent.mkdir(parents=True)
    os.symlink(outside, here / link)
    store = packed(GOOD)
    with pytest.raises(MetadataError, match="symbolic link"):
        await sync_local_metadata_from_datastore(here, blobs=store, task=store, runtime=runtime)
    assert list(outside.iterdir()) == []


async def test_a_cancelled_merge_is_completed_by_the_next(
    here: Path, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync, "_FILES_AT_ONCE", 3)
    store = packed(*((f".metaflow/{FLOW}/{number}/_meta/_self.json", b"{}") for number in range(60)))

    async def merge() -> MergeResult | None:
        return await sync_local_metadata_from_datastore(
            here, blobs=store, task=store, runtime=runtime, durability="fast"
        )

    for delay in (0.001, 0.004, 0.01):
        with anyio.move_on_after(delay):
            await merge()
        assert not [path for path in here.rglob(".*") if path.is_file()]
    result = await merge()
    assert result is not None
    assert result.written + result.kept == 60
    assert len(list(here.rglob("_self.json"))) == 60
