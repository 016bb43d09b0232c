"""Looks behind the back of a local storage: plain files, read and written as Metaflow does."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from asyncstore.testing.harness import RawObject


class LocalRaw:
    def __init__(self, root: Path) -> None:
        self._root = root

    async def read(self, path: str) -> RawObject | None:
        file, sidecar = self._root / path, self._root / f"{path}_meta"
        if not file.is_file():
            return None
        return RawObject(file.read_bytes(), sidecar.read_text() if sidecar.exists() else None)

    async def write(self, path: str, raw: RawObject) -> None:
        file = self._root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        sidecar = Path(f"{file}_meta")
        if raw.attributes is None:
            sidecar.unlink(missing_ok=True)
        else:
            sidecar.write_text(raw.attributes)
        temporary = Path(f"{file}.new")
        temporary.write_bytes(raw.data)
        temporary.rename(file)

    async def seed(self, directory: str, names: Sequence[str]) -> None:
        (self._root / directory).mkdir(parents=True)
        for name in names:
            (self._root / directory / name).touch()

    async def remove(self, path: str) -> None:
        (self._root / path).unlink()
        Path(f"{self._root / path}_meta").unlink(missing_ok=True)

    async def paths(self) -> set[str]:
        files = self._files()
        return {path for path in files if not (path.endswith("_meta") or path.startswith(".asyncstore/"))}

    async def leftovers(self) -> set[str]:
        files = self._files()
        sidecars = {path for path in files if path.endswith("_meta")}
        orphans = {path for path in sidecars if path.removesuffix("_meta") not in files}
        # The lock of a live owner stays as long as it lives.
        reserved = {path for path in files if path.startswith(".asyncstore/")}
        return orphans | {path for path in reserved if not path.endswith("lock") and "/locks/" not in path}

    def _files(self) -> set[str]:
        return {
            os.path.relpath(os.path.join(directory, name), self._root)
            for directory, _, names in os.walk(self._root)
            for name in names
        }
