"""Do one thing to a local provider from many processes at the same moment.

    python -m tests.metadata.many_processes tags|runs|tasks COUNT ROOT FLOW [RUN]

Prints what each process got, one JSON text a line. The processes are forked from this one, which has no threads,
and begin together when the pipe that they all read is closed.
"""

from __future__ import annotations

import json
import os
import sys

import anyio

from asyncstore.metadata.local import LocalMetadataProvider
from asyncstore.metadata.system import SystemInfo


async def act(what: str, number: int, root: str, flow: str, run: str) -> object:
    # By this clock they all begin in the same microsecond.
    async with LocalMetadataProvider(
        root, system=SystemInfo(f"user{number}"), durability="fast", clock=lambda: 1_700_000_000_000_000_000
    ) as provider:
        if what == "tags":
            tags = await provider.mutate_user_tags_for_run(flow, run, add=[f"tag{number}"])
            return sorted(tags)
        if what == "runs":
            return await provider.new_run_id(flow)
        return [await provider.new_task_id(flow, run, step) for step in ("a", "b")]


def main(what: str, count: str, root: str, flow: str, run: str = "") -> None:
    start, go = os.pipe()
    children: list[int] = []
    for number in range(int(count)):
        child = os.fork()
        if child == 0:
            os.close(go)
            os.read(start, 1)
            answer = json.dumps(anyio.run(act, what, number, root, flow, run)) + "\n"
            os.write(sys.stdout.fileno(), answer.encode())
            os._exit(0)
        children.append(child)
    os.close(start)
    os.close(go)
    failed = [child for child in children if os.waitpid(child, 0)[1] != 0]
    sys.exit(len(failed))


if __name__ == "__main__":
    main(*sys.argv[1:])
