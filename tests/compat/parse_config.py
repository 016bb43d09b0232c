"""Runs in Metaflow's environment: answers with what Metaflow's own parser makes of each case given on stdin."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from metaflow import metaflow_config_funcs as funcs


def parse(case: dict[str, Any]) -> dict[str, Any]:
    os.environ.clear()
    os.environ.update(case["environ"])
    os.chdir(case["cwd"])
    funcs.METAFLOW_CONFIG = funcs.METAFLOW_LOCAL_CONFIG = None
    try:
        return {"value": funcs.from_conf(case["name"], case["default"])}
    except Exception as error:
        return {"error": type(error).__name__}


if __name__ == "__main__":
    json.dump([parse(case) for case in json.load(sys.stdin)], sys.stdout)
