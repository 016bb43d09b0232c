"""What saving and verifying blobs return."""

from __future__ import annotations

from dataclasses import dataclass

from asyncstore.errors import AsyncStoreError
from asyncstore.types import Key


@dataclass(frozen=True, slots=True)
class SavedBlob:
    """One blob that is stored.

    ``uri`` is the full address of its object, for blobs saved with ``raw=True``, else None. ``size`` in bytes of
    content, ``stored_size`` in bytes as stored (None if not known). ``existed`` says that no bytes were written for
    it, since the store had them.
    """

    key: Key
    uri: str | None
    size: int
    stored_size: int | None
    existed: bool


@dataclass(frozen=True, slots=True)
class BlobStatus:
    """The outcome of verifying one blob: ``size`` in bytes of content if that is whole, and the error, if any.

    Both where only the attributes are wrong.
    """

    key: Key
    size: int | None
    error: AsyncStoreError | None

    @property
    def ok(self) -> bool:
        return self.error is None
