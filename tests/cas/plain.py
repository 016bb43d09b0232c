"""A storage without optional abilities that counts its calls: what a cloud looks like to the store."""

from __future__ import annotations

from collections import Counter
from typing import Any

from asyncstore.storage.base import MultipartUpload
from asyncstore.storage.memory import MemoryStorage
from asyncstore.types import Attributes, Buffer, ByteRange, ObjectMeta, WriteMode


class PlainStorage(MemoryStorage):
    """A memory storage seen through its six verbs only."""

    def __init__(self, name: str, **options: Any) -> None:
        super().__init__(name, **options)
        self.calls: Counter[str] = Counter()

    def power(self, kind: type[Any]) -> None:
        return None

    async def head(self, path: str) -> ObjectMeta | None:
        self.calls["head"] += 1
        return await super().head(path)

    def get(self, path: str, *, byte_range: ByteRange | None = None, if_match: str | None = None) -> Any:
        self.calls["get"] += 1
        return super().get(path, byte_range=byte_range, if_match=if_match)

    async def put(
        self, path: str, data: Buffer, *, attributes: Attributes | None = None, mode: WriteMode = "overwrite"
    ) -> ObjectMeta:
        self.calls["put"] += 1
        return await super().put(path, data, attributes=attributes, mode=mode)

    async def create_multipart(
        self, path: str, *, part_size: int, attributes: Attributes | None = None, mode: WriteMode = "overwrite"
    ) -> MultipartUpload:
        self.calls["multipart"] += 1
        return await super().create_multipart(path, part_size=part_size, attributes=attributes, mode=mode)
