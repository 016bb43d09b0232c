"""Drive Metaflow's own client and task datastore; runs in Metaflow's environment, where asyncstore is not installed.

    metaflow_tasks.py client DIRECTORY FLOW       what the client shows of all runs, tasks, attempts, artifacts and logs
    metaflow_tasks.py store TYPE ROOT FLOW RUN    what the task datastore shows of the latest attempts of a run
    metaflow_tasks.py write TYPE ROOT FLOW RUN    write a task there with the values of artifact_values.py
    metaflow_tasks.py keys                        keys by Metaflow and by asyncstore's pickling, in this one process

The answer is JSON on standard output.
"""

from __future__ import annotations

import hashlib
import json
import sys
from typing import Any

from artifact_values import describe, framework_values, other_values, plain_values  # type: ignore[import-not-found]


def show_task(task: Any) -> dict[str, Any]:
    artifacts = {name: task[name] for name in all_names(task)}
    return {
        "artifacts": {
            name: {"sha": item.sha, "size": item.size, "value": describe(item.data)} for name, item in artifacts.items()
        },
        "public": sorted(item.id for item in task),
        "finished": task.finished,
        "successful": task.successful,
        "exception": None if task.exception is None else describe(task.exception),
        "index": task.index,
        "attempt": task.current_attempt,
        "stdout": task.stdout,
        "stderr": task.stderr,
        "stdout_size": task.stdout_size,
        "lines": [[str(when), text] for when, text in task.loglines("stdout")],
        "finished_at": task.finished_at is not None,
    }


def all_names(task: Any) -> list[str]:
    """Return the names of all artifacts; the client's own iteration leaves out private ones."""
    found = task._metaflow.metadata.get_object("task", "artifact", None, task._attempt, *task.path_components)
    return [item["name"] for item in found or []]


def client(directory: str, flow: str) -> Any:
    import metaflow

    metaflow.metadata(f"local@{directory}")
    metaflow.namespace(None)
    shown = {}
    for run in metaflow.Flow(flow):
        for step in [*run.steps(), run["_parameters"]]:
            for task in step.tasks():
                started = task.current_attempt + 1
                attempts = {n: show_task(metaflow.Task(task.pathspec, attempt=n)) for n in range(started)}
                shown[task.pathspec] = {"latest": show_task(task), "attempts": attempts}
    return shown


def open_flow(kind: str, root: str, flow: str) -> Any:
    from metaflow.datastore import FlowDataStore
    from metaflow.plugins import DATASTORES

    [storage] = [one for one in DATASTORES if kind == one.TYPE]
    return FlowDataStore(flow, None, storage_impl=storage, ds_root=root)


def store(kind: str, root: str, flow: str, run: str) -> Any:
    shown = {}
    for task in open_flow(kind, root, flow).get_task_datastores(run):
        shown[task.pathspec] = {
            "attempt": task.attempt,
            "index": task.pathspec_index,
            "values": {name: describe(value) for name, value in task.load_artifacts(list(task))},
            "sizes": dict(task.get_artifact_sizes(list(task))),
            "metadata": task.load_metadata(["task_begin", "task_end", "runtime"]),
            "logs": [[source, data.decode()] for source, data in task.load_logs(["runtime", "task"], "stdout")],
            "info": task.ds_metadata["info"],
        }
    return shown


def write(kind: str, root: str, flow: str, run: str) -> Any:
    from metaflow.exception import MetaflowExceptionWrapper
    from metaflow.includefile import IncludedFile
    from metaflow.tuple_util import ForeachFrame

    task = open_flow(kind, root, flow).get_task_datastore(run, "start", "1", attempt=0, mode="w")
    task.init_task()
    values = {**plain_values(), **framework_values(ForeachFrame, MetaflowExceptionWrapper, IncludedFile)}
    task.save_artifacts(iter(values.items()))
    task.save_logs("runtime", {"stdout": b"written by Metaflow\n", "stderr": b""})
    task.done()
    return {"keys": dict(task.items()), "values": {name: describe(value) for name, value in values.items()}}


def keys() -> Any:
    from metaflow.exception import MetaflowExceptionWrapper
    from metaflow.includefile import IncludedFile
    from metaflow.plugins.datastores.serializers.pickle_serializer import PickleSerializer
    from metaflow.tuple_util import ForeachFrame

    from asyncstore.datastore import pickling, values

    plain = {**plain_values(), **other_values()}
    theirs = {**plain, **framework_values(ForeachFrame, MetaflowExceptionWrapper, IncludedFile)}
    ours = {
        **plain,
        **framework_values(values.ForeachFrame, values.MetaflowExceptionWrapper, values.IncludedFile),
    }
    table = {}
    for name, value in theirs.items():
        [blob], _ = PickleSerializer.serialize(value)
        table[name] = [hashlib.sha1(data).hexdigest() for data in (blob.value, pickling.dumps(ours[name]))]
    return table


def main(command: str, *arguments: str) -> None:
    run: Any = {"client": client, "store": store, "write": write, "keys": keys}[command]
    json.dump(run(*arguments), sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
