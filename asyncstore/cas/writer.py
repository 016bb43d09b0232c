"""Decides for one blob whether it must be written, and heals what is there but cannot be right."""

from __future__ import annotations

from typing import Protocol

from asyncstore.cas.context import SMALL, CasContext
from asyncstore.cas.fetch import is_whole
from asyncstore.cas.pack import Packed, can_be_whole, form_to_heal, pack
from asyncstore.cas.result import SavedBlob
from asyncstore.codec.base import Codec
from asyncstore.errors import AlreadyExistsError, IntegrityError
from asyncstore.types import Attributes, Key, ObjectMeta, WriteMode


class Blob(Protocol):
    """A hashed blob that can be written, in any form, as often as needed."""

    @property
    def key(self) -> Key: ...

    @property
    def size(self) -> int: ...

    async def form(self) -> Codec:
        """Return the form in which it is best stored."""
        ...

    async def write(self, codec: Codec, attributes: Attributes, mode: WriteMode) -> ObjectMeta: ...


class WholeBlob:
    """A blob whose content is in memory; packed before, or when it turns out to be needed."""

    def __init__(self, context: CasContext, packed: Packed) -> None:
        self._context = context
        self.packed = packed

    @property
    def key(self) -> Key:
        return self.packed.key

    @property
    def size(self) -> int:
        return self.packed.size

    async def form(self) -> Codec:
        packed = self.packed
        if packed.stored is None:
            self.packed = await self._context.runtime.pool.run(pack, packed.content, packed.key, packed.codec)
        return self.packed.codec

    async def write(self, codec: Codec, attributes: Attributes, mode: WriteMode) -> ObjectMeta:
        stored = self.packed.stored
        if stored is None or codec.name != self.packed.codec.name:
            stored = await self._context.runtime.pool.run(codec.compress, self.packed.content)
        return await self._context.storage.put(self._context.path(self.key), stored, attributes=attributes, mode=mode)


class BlobWriter:
    """Saves single blobs: each key once, by one caller at a time."""

    def __init__(self, context: CasContext, *, raw: bool, verify_existing: bool) -> None:
        self._context = context
        self._raw = raw
        self._verify_existing = verify_existing

    def is_known(self, key: Key) -> bool:
        """Say whether a blob needs no request at all, since this store has saved or seen it."""
        return not self._verify_existing and key in self._context.known

    async def save(self, blob: Blob) -> SavedBlob:
        """Store a blob unless it is stored; wait for whoever is storing the same."""
        known = self._context.known
        while not self.is_known(blob.key):
            if mine := known.claim([blob.key]):
                try:
                    return await self.save_claimed(blob)
                finally:
                    known.release(mine)
            await known.landed(blob.key)
        return self.existing(blob.key, blob.size, known.stored_size(blob.key))

    async def save_claimed(self, blob: Blob) -> SavedBlob:
        """Store a blob that the caller has claimed.

        New: one request, with a HEAD before it for all but small blobs. In place: HEAD, after the refused create of
        a small one.
        """
        if self._context.known.is_damaged(blob.key):
            return await self._heal(blob, await self._head(blob.key))
        if blob.size > SMALL and (found := await self._head(blob.key)) is not None:
            return await self.settle(blob, found)
        codec = await blob.form()
        try:
            meta = await blob.write(codec, codec.attributes(blob.size), "create")
        except AlreadyExistsError:
            return await self.settle(blob, await self._head(blob.key))
        return self.written(blob.key, blob.size, meta)

    async def settle(self, blob: Blob, found: ObjectMeta | None) -> SavedBlob:
        """Accept the object found in place of a blob, or overwrite it if it cannot be right.

        ``found`` is None where even its attributes are unreadable.
        """
        if found is not None and can_be_whole(found, blob.size) and await self._accept(blob.key):
            return self.existing(blob.key, blob.size, found.size)
        return await self._heal(blob, found)

    def existing(self, key: Key, size: int, stored_size: int | None) -> SavedBlob:
        """Note and return a blob that was in place."""
        self._context.known.add(key, stored_size)
        return SavedBlob(key, self._uri(key), size, stored_size, existed=True)

    def written(self, key: Key, size: int, meta: ObjectMeta) -> SavedBlob:
        """Note and return a blob that was written now."""
        self._context.known.add(key, meta.size)
        return SavedBlob(key, self._uri(key), size, meta.size, existed=False)

    async def _heal(self, blob: Blob, found: ObjectMeta | None) -> SavedBlob:
        codec, attributes = form_to_heal(found, blob.size, await blob.form())
        return self.written(blob.key, blob.size, await blob.write(codec, attributes, "overwrite"))

    async def _accept(self, key: Key) -> bool:
        return not self._verify_existing or await is_whole(self._context, key)

    async def _head(self, key: Key) -> ObjectMeta | None:
        try:
            return await self._context.storage.head(self._context.path(key))
        except IntegrityError:
            return None  # something is there whose attributes are unreadable: create refuses, and it is healed

    def _uri(self, key: Key) -> str | None:
        return self._context.uri(key) if self._raw else None
