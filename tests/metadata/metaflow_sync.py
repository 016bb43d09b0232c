"""Carry metadata with Metaflow's own functions; runs in Metaflow's environment, where asyncstore is not installed.

    metaflow_sync.py to|from DIRECTORY ROOT FLOW RUN STEP TASK

DIRECTORY holds ``.metaflow``, ROOT is that of a local datastore.
"""

from __future__ import annotations

import os
import sys


def main(way: str, directory: str, root: str, flow: str, run: str, step: str, task: str) -> None:
    from metaflow.datastore import FlowDataStore
    from metaflow.metadata_provider import util
    from metaflow.plugins.datastores.local_storage import LocalStorage

    os.chdir(directory)
    store = FlowDataStore(flow, storage_impl=LocalStorage, ds_root=root)
    if way == "to":
        opened = store.get_task_datastore(run, step, task, attempt=0, mode="w")
        opened._is_done_set = True  # what the remote side's own object is by then
        util.sync_local_metadata_to_datastore(".metaflow", opened)
    else:
        util.sync_local_metadata_from_datastore(".metaflow", store.get_task_datastore(run, step, task, attempt=0))


if __name__ == "__main__":
    main(*sys.argv[1:])
