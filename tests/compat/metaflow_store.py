"""Metaflow's own content-addressed store, called from here and run in its own environment."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DRIVER = Path(__file__).with_name("metaflow_driver.py")


@dataclass(frozen=True)
class MetaflowStore:
    """Metaflow's store of one flow's blobs below ``root`` (a directory, or an s3:// URL)."""

    python: Path
    root: str
    prefix: str
    environ: Mapping[str, str] = field(default_factory=dict)

    def save(self, blobs: Sequence[bytes], *, raw: bool = False) -> list[str]:
        """Save blobs and return their keys, in the order of the blobs."""
        with tempfile.TemporaryDirectory() as scratch:
            for number, blob in enumerate(blobs):
                Path(scratch, f"{number:06}").write_bytes(blob)
            saved = self._run("save", scratch, *(["--raw"] if raw else []))
        return [one["key"] for one in saved]

    def load(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Load blobs by key."""
        with tempfile.TemporaryDirectory() as scratch:
            loaded = self._run("load", scratch, *keys)
            return {key: Path(scratch, key).read_bytes() for key in loaded}

    def _run(self, command: str, scratch: str, *rest: str) -> Any:
        done = subprocess.run(
            [self.python, DRIVER, command, self.root, self.prefix, scratch, *rest],
            env={**plain_environ(), "TMPDIR": scratch, **self.environ},
            cwd=scratch,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"Metaflow failed: {done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        return json.loads(done.stdout)


def plain_environ() -> dict[str, str]:
    # What the developer has set up for real clusters must not reach Metaflow under test.
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("METAFLOW_", "AWS_", "AZURE_", "GOOGLE_", "STORAGE_EMULATOR", "PYTHONPATH"))
    } | {"METAFLOW_USER": "tester", "METAFLOW_HOME": os.devnull}
