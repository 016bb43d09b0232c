"""Where a benchmark stores: a directory, or an S3 server. Each repeat begins with an empty root."""

from __future__ import annotations

import re
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import count
from pathlib import Path
from typing import Protocol

from benchmarks.machine import file_system


class Place(Protocol):
    def describe(self) -> str: ...

    def root(self) -> AbstractContextManager[str]:
        """Give an empty root, and remove it with all in it behind the block."""
        ...

    def stored_bytes(self, root: str) -> int: ...


class DirectoryPlace:
    def __init__(self, path: Path) -> None:
        self._path = path

    def describe(self) -> str:
        return file_system(self._path)

    def root(self) -> AbstractContextManager[str]:
        return tempfile.TemporaryDirectory(dir=self._path, prefix="asyncstore-bench-")

    def stored_bytes(self, root: str) -> int:
        return sum(file.stat().st_size for file in Path(root).rglob("*") if file.is_file())


class ResponderPlace:
    """The S3 responder, which asks for no credentials."""

    def __init__(self, url: str, ceiling: float) -> None:
        self._url = url
        self._ceiling = ceiling
        self._buckets = (f"bench-{number}" for number in count(1))

    def describe(self) -> str:
        return f"an S3 responder in memory on a core of its own, at most {self._ceiling:.0f} GET/s"

    @contextmanager
    def root(self) -> Iterator[str]:
        bucket = next(self._buckets)
        yield f"s3://{bucket}/root"
        self._ask("DELETE", bucket)

    def stored_bytes(self, root: str) -> int:
        bucket = root.split("/")[2]
        total, token = 0, ""
        while True:
            page = self._ask("GET", f"{bucket}?list-type=2&continuation-token={token}")
            total += sum(map(int, re.findall(r"<Size>(\d+)</Size>", page)))
            found = re.search(r"<NextContinuationToken>(.*)</NextContinuationToken>", page)
            if found is None:
                return total
            token = found[1]

    def _ask(self, method: str, path: str) -> str:
        with urllib.request.urlopen(urllib.request.Request(f"{self._url}/{path}", method=method), timeout=30) as answer:
            text: str = answer.read().decode()
            return text
