"""A datastore and its metadata as Metaflow 2.19.38 wrote them to local disk, and what Metaflow's client says of it.

``metaflow-local.expected.json`` explains itself under ``about``.
"""

from __future__ import annotations

import json
import tarfile
from functools import cache
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent


@cache
def expected() -> Any:
    """Return what Metaflow's own client and store say of the golden datastore; not to be changed."""
    return json.loads((_HERE / "metaflow-local.expected.json").read_text(encoding="utf-8"))


def extract_all(archive: tarfile.TarFile, target: Path, members: list[tarfile.TarInfo] | None = None) -> None:
    """Unpack an archive of our own making, with the same outcome on every Python."""
    # The argument ``filter`` is not there before 3.11.4, which Debian 12 does not have.
    archive.extraction_filter = getattr(tarfile, "data_filter", None)
    archive.extractall(target, members)


def extract(target: Path, *, below: str = "") -> Path:
    """Unpack the golden datastore below ``target`` and return its root, the ``.metaflow`` directory.

    Included files go to ``data`` beside it. ``below`` takes one directory of the root alone: blobs are few, and the
    8000 small files of the whole take seconds.
    """
    with tarfile.open(_HERE / "metaflow-local.tar.gz") as archive:
        members = [member for member in archive if not below or member.name.startswith(f".metaflow/{below}/")]
        extract_all(archive, target, members)
    return target / ".metaflow"
