"""Carrying metadata through the real datastore, to ourselves and to and from Metaflow."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from asyncstore.cas.store import ContentAddressedStore
from asyncstore.datastore.flow import FlowDataStore
from asyncstore.layout import blob_prefix
from asyncstore.metadata.base import fetch_objects
from asyncstore.metadata.local import LocalMetadataProvider
from asyncstore.metadata.sync import sync_local_metadata_from_datastore, sync_local_metadata_to_datastore
from asyncstore.metadata.system import SystemInfo
from asyncstore.runtime import Runtime
from asyncstore.storage.local import LocalStorage
from tests.metadata.test_sync import FLOW, run_task_elsewhere

RUN, STEP, TASK = "7", "start", "3"


class Carrier:
    """A done task of a flow in a local datastore."""

    def __init__(self, root: Path, runtime: Runtime) -> None:
        self.root = root
        self.runtime = runtime
        self.storage = LocalStorage(root, runtime=runtime)
        self.flow = FlowDataStore(FLOW, self.storage)
        self.blobs = ContentAddressedStore(blob_prefix(FLOW), self.storage)

    async def finish_task(self) -> Any:
        task = await self.flow.get_task_datastore(RUN, STEP, TASK, attempt=0, mode="w")
        await task.init_task()
        await task.save_artifacts([("x", 1)])
        await task.done()
        return task

    async def read(self) -> Any:
        return await self.flow.get_task_datastore(RUN, STEP, TASK)


@pytest.fixture
async def carrier(tmp_path: Path) -> AsyncIterator[Carrier]:
    async with Runtime() as runtime:
        yield Carrier(tmp_path / "datastore", runtime)


def records(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*.json")}


async def metaflow(python: Path, way: str, directory: Path, carrier: Carrier) -> None:
    script = Path(__file__).with_name("metaflow_sync.py")
    answer = await anyio.run_process(
        [str(part) for part in (python, script, way, directory, carrier.root, FLOW, RUN, STEP, TASK)],
        env={**os.environ, "METAFLOW_USER": "tester", "METAFLOW_HOME": str(directory)},
        check=False,
    )
    assert answer.returncode == 0, answer.stderr.decode()


async def test_metadata_travels_with_a_done_task(carrier: Carrier, tmp_path: Path) -> None:
    there, here = tmp_path / "there/.metaflow", tmp_path / "here/.metaflow"
    await run_task_elsewhere(there, RUN, TASK)
    task = await carrier.finish_task()
    await sync_local_metadata_to_datastore(there, FLOW, RUN, blobs=carrier.blobs, task=task, runtime=carrier.runtime)
    await sync_local_metadata_from_datastore(
        here, blobs=carrier.blobs, task=await carrier.read(), runtime=carrier.runtime
    )
    assert records(here) == records(there) != {}


@pytest.mark.servers
async def test_metaflow_merges_what_we_packed(carrier: Carrier, tmp_path: Path, metaflow_python: Path) -> None:
    there, here = tmp_path / "there/.metaflow", tmp_path / "here/.metaflow"
    await run_task_elsewhere(there, RUN, TASK)
    task = await carrier.finish_task()
    await sync_local_metadata_to_datastore(there, FLOW, RUN, blobs=carrier.blobs, task=task, runtime=carrier.runtime)
    here.mkdir(parents=True)
    await metaflow(metaflow_python, "from", here.parent, carrier)
    assert records(here) == records(there) != {}


@pytest.mark.servers
async def test_we_merge_what_metaflow_packed(carrier: Carrier, tmp_path: Path, metaflow_python: Path) -> None:
    there, here = tmp_path / "there/.metaflow", tmp_path / "here/.metaflow"
    await run_task_elsewhere(there, RUN, TASK)
    await carrier.finish_task()
    await metaflow(metaflow_python, "to", there.parent, carrier)
    result = await sync_local_metadata_from_datastore(
        here, blobs=carrier.blobs, task=await carrier.read(), runtime=carrier.runtime
    )
    assert result is not None
    assert result.written == len(records(there)) == 6
    assert records(here) == records(there)
    async with LocalMetadataProvider(here, system=SystemInfo("tester"), partial=True) as provider:
        assert [item.id for item in await fetch_objects(provider, "artifact", FLOW, RUN, STEP, TASK)] == ["x"]
