"""What every wrapper of a storage forwards unchanged. The verbs it forwards itself, each with what it adds."""

from __future__ import annotations

from asyncstore.runtime import Runtime
from asyncstore.storage.base import DataStoreStorage, MultipartLimits


class StorageWrapper:
    """A storage's description, and its end. Pickles as the storage inside does."""

    def __init__(self, inner: DataStoreStorage) -> None:
        self._inner = inner

    @property
    def TYPE(self) -> str:  # noqa: N802  # Metaflow's name
        return self._inner.TYPE

    @property
    def root(self) -> str:
        return self._inner.root

    @property
    def runtime(self) -> Runtime:
        return self._inner.runtime

    @property
    def multipart_limits(self) -> MultipartLimits:
        return self._inner.multipart_limits

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._inner!r})"

    async def aclose(self) -> None:
        """Close the storage inside."""
        await self._inner.aclose()
