"""Where and with what a benchmark ran: kept with every result."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent


def describe() -> dict[str, Any]:
    """Return hardware, system, commit and load of this machine, now."""
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _git("rev-parse", "HEAD"),
        "changed": bool(_git("status", "--porcelain")),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": _first_value("/proc/cpuinfo", "model name") or platform.processor(),
        "cpus": os.cpu_count(),
        "memory": _first_value("/proc/meminfo", "MemTotal"),
        "load": round(os.getloadavg()[0], 2),
    }


def file_system(path: Path) -> str:
    """Return the type of the file system that holds ``path``, as mounted ("tmpfs", "ext4"), or "unknown"."""
    try:
        mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    except OSError:
        return "unknown"
    path = path.resolve()
    holding = [(mount[1], mount[2]) for mount in mounts if path.is_relative_to(mount[1])]
    return max(holding, key=lambda mount: len(mount[0]))[1] if holding else "unknown"


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _first_value(file: str, name: str) -> str:
    try:
        lines = Path(file).read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")
