"""Listing a directory of an S3 bucket, a page of up to 1000 entries at a time."""

from __future__ import annotations

from collections import deque
from typing import Any

from anyio.lowlevel import checkpoint

from asyncstore.layout import METADATA_DIRECTORY, RESERVED_DIRECTORY, is_hidden
from asyncstore.storage.s3_call import S3Caller
from asyncstore.storage.s3_get import in_utc, plain_etag
from asyncstore.types import ListEntry

_NO_NAMES = ("", METADATA_DIRECTORY, RESERVED_DIRECTORY)


class S3Listing:
    """The entries of a directory; the next page is asked for when the last one is used up."""

    def __init__(self, caller: S3Caller, base: str, prefix: str, *, recursive: bool) -> None:
        self._caller = caller
        self._base = base
        self._path = prefix
        self._below = f"{base}{prefix}/" if prefix else base
        self._recursive = recursive
        self._entries: deque[ListEntry] = deque()
        self._token: str | None = None
        self._more = True

    def __aiter__(self) -> S3Listing:
        return self

    async def __anext__(self) -> ListEntry:
        while not self._entries:
            if not self._more:
                raise StopAsyncIteration
            await self._next_page()
        await checkpoint()
        return self._entries.popleft()

    async def _next_page(self) -> None:
        arguments: dict[str, Any] = {"Prefix": self._below}
        if not self._recursive:
            arguments["Delimiter"] = "/"
        if self._token is not None:
            arguments["ContinuationToken"] = self._token
        page = await self._caller.call("list_objects_v2", "list", self._path, **arguments)
        self._token = page.get("NextContinuationToken")
        self._more = bool(page.get("IsTruncated")) and self._token is not None
        for one in page.get("CommonPrefixes") or ():
            self._add(one["Prefix"].removesuffix("/"), None)
        for one in page.get("Contents") or ():
            self._add(one["Key"], one)

    def _add(self, key: str, found: dict[str, Any] | None) -> None:
        names = key[len(self._below) :].split("/")
        # An empty name is a "folder" that a console made, or a key that no storage of ours can spell.
        if any(name in _NO_NAMES for name in names) or (found is not None and is_hidden(names[-1])):
            return
        path = key[len(self._base) :]
        if found is None:
            self._entries.append(ListEntry(path, "directory"))
        else:
            modified = in_utc(found.get("LastModified"))
            self._entries.append(ListEntry(path, "object", found.get("Size"), plain_etag(found.get("ETag")), modified))
