"""Write one task with its registration below ROOT and be killed at the STEPth file operation there.

    python -m tests.datastore.kill_writer ROOT STEP

With STEP 0 nothing is killed; then the number of file operations is printed.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import anyio

from asyncstore.metadata.local import LocalMetadataProvider
from asyncstore.metadata.system import SystemInfo
from asyncstore.runtime import Runtime
from asyncstore.storage.local import LocalStorage
from tests.datastore.whole import write_task

EVENTS = {"open", "os.rename", "os.link", "os.mkdir", "os.remove", "os.rmdir", "os.truncate"}


async def main(root: str, step: int) -> None:
    operations = 0

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal operations
        if event in EVENTS and armed:
            operations += 1
            if operations == step:
                os.kill(os.getpid(), signal.SIGKILL)

    armed = False
    sys.addaudithook(watch)
    async with Runtime() as runtime:
        storage = LocalStorage(root, runtime=runtime, durability="fast")
        provider = LocalMetadataProvider(root, runtime=runtime, system=SystemInfo("tester"), durability="fast")
        await provider.register_run_id("Flow", "r")
        await provider.register_task_id("Flow", "r", "s", "task")
        armed = True
        await write_task(storage, "task", registrar=provider)
        armed = False
    print(operations)


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], int(sys.argv[2]))
