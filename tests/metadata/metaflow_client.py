"""List a flow with Metaflow's own client; runs in Metaflow's environment, where asyncstore is not installed.

    metaflow_client.py list DIRECTORY FLOW       -> what the client shows of the flow below DIRECTORY/.metaflow
    metaflow_client.py tag DIRECTORY RUN TAG     adds a tag to a run

The answer is JSON on standard output.
"""

from __future__ import annotations

import json
import sys
from typing import Any


def milliseconds(moment: Any) -> int:
    whole: int = round(moment.timestamp() * 1000)
    return whole


def list_task(task: Any) -> dict[str, Any]:
    return {
        "created_at": milliseconds(task.created_at),
        "user_tags": sorted(task.user_tags),
        "system_tags": sorted(task.system_tags),
        "metadata": sorted([row.created_at, row.name, row.type, row.value] for row in task.metadata),
        "artifacts": {item.id: item.sha for item in task.artifacts},
        "ok": task["_task_ok"].sha if "_task_ok" in task else None,
    }


def list_run(run: Any) -> dict[str, Any]:
    from metaflow import Task

    return {
        "created_at": milliseconds(run.created_at),
        "user_tags": sorted(run.user_tags),
        "system_tags": sorted(run.system_tags),
        "steps": {
            step.id: {
                "created_at": milliseconds(step.created_at),
                "tasks": {
                    task.id: {
                        "latest": list_task(task),
                        "attempts": {attempt: list_task(Task(task.pathspec, attempt=attempt)) for attempt in (0, 1)},
                    }
                    for task in step.tasks()
                },
            }
            for step in [*run.steps(), run["_parameters"]]
        },
    }


def main(command: str, directory: str, *rest: str) -> None:
    import metaflow

    metaflow.metadata(f"local@{directory}")
    metaflow.namespace(None)
    if command == "tag":
        metaflow.Run(rest[0]).add_tag(rest[1])
        return
    runs = list(metaflow.Flow(rest[0]).runs())
    json.dump({"order": [run.id for run in runs], "runs": {run.id: list_run(run) for run in runs}}, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
