"""Writes a task as a runner would, and checks that what is left of one is whole."""

from __future__ import annotations

from typing import Any

from asyncstore.datastore.flow import FlowDataStore
from asyncstore.datastore.logs import format_line
from asyncstore.datastore.registration import TaskRegistrar
from asyncstore.errors import TaskNotFoundError
from asyncstore.storage.base import DataStoreStorage

VALUES: dict[str, Any] = {
    "small": 1,
    "same": 1,
    "text": "text " * 400,
    "middle": bytes(range(256)) * 1200,
    "_task_ok": True,
}


async def write_task(
    storage: DataStoreStorage,
    task: str,
    *,
    registrar: TaskRegistrar | None = None,
    values: dict[str, Any] | None = None,
) -> None:
    """Write one attempt from its start to its registration."""
    flow = FlowDataStore("Flow", storage, metadata=registrar)
    store = await flow.get_task_datastore("r", "s", task, attempt=0, mode="w")
    await store.init_task()
    await store.save_metadata({"task_begin": {"retry_count": 0}})
    await store.save_artifacts(VALUES if values is None else values)
    await store.save_logs("runtime", {"stdout": format_line(b"out\n", source="runtime")})
    await store.save_metadata({"task_end": {}})
    await store.done()


async def check_task(storage: DataStoreStorage, task: str, *, values: dict[str, Any] | None = None) -> bool:
    """Return whether a task is done; if it is, all of it must be there."""
    flow = FlowDataStore("Flow", storage)  # a new one: nothing is known, every blob is read and hashed
    try:
        store = await flow.get_task_datastore("r", "s", task)
    except TaskNotFoundError:
        assert await flow.get_task_datastores("r") == []
        return False
    assert await store.fetch_artifacts() == (VALUES if values is None else values)
    assert await store.load_metadata(["task_begin", "task_end"]) == {"task_begin": {"retry_count": 0}, "task_end": {}}
    assert dict(await store.load_logs("stdout"))["runtime"].endswith(b"]out\n")
    return True
