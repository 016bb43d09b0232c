"""Decides from what is stored whether a write whose reply was lost took effect."""

from __future__ import annotations

from asyncstore.errors import NotFoundError, PreconditionFailedError
from asyncstore.storage.attributes import decode_attributes, encode_attributes
from asyncstore.storage.base import DataStoreStorage
from asyncstore.types import Attributes, Buffer, ObjectMeta


def same_attributes(stored: Attributes, meant: Attributes | None) -> bool:
    """Say whether stored attributes are those that a write meant, as they come back from JSON."""
    text = encode_attributes(meant)
    return stored == (decode_attributes(text) if text else {})


async def find_object(
    storage: DataStoreStorage, path: str, size: int, attributes: Attributes | None
) -> ObjectMeta | None:
    """Return the object at ``path`` if it has this size and these attributes. One request."""
    meta = await storage.head(path)
    if meta is None or meta.size != size or not same_attributes(meta.attributes, attributes):
        return None
    return meta


async def find_copy(
    storage: DataStoreStorage, path: str, data: Buffer, attributes: Attributes | None
) -> ObjectMeta | None:
    """Return the object at ``path`` if it has this content and these attributes. Two requests."""
    view = memoryview(data).cast("B")
    meta = await find_object(storage, path, len(view), attributes)
    if meta is None:
        return None
    position = 0
    try:
        async with storage.get(path, if_match=meta.etag) as reader:
            async for chunk in reader:
                if bytes(view[position : position + len(chunk)]) != chunk:
                    return None
                position += len(chunk)
    except (NotFoundError, PreconditionFailedError):
        return None  # somebody else's by now
    return meta
