"""Files that an IncludeFile parameter stores beside the artifacts: read and written.

Follows Metaflow 2.19 ``includefile.py``. Such a file lies outside the content-addressed store, gzipped, at
``<datatools root>/<flow>/<sha1 of the file>``, and its artifact holds the absolute URL. A store that was moved needs
``remap``.
"""

from __future__ import annotations

import gzip
import hashlib
import io
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, suppress
from functools import partial
from typing import Any, TypeAlias

from asyncstore.codec.registry import codec_named
from asyncstore.datastore.files import read_file
from asyncstore.datastore.values import IncludedFile
from asyncstore.errors import AlreadyExistsError, ArtifactError, CodecError, DataMissingError
from asyncstore.storage.base import DataStoreStorage
from asyncstore.types import Buffer

OpenStorage: TypeAlias = Callable[[str], AbstractAsyncContextManager[DataStoreStorage]]

UPLOADED = "uploaded"
_NOTE = "Internal representation of IncludeFile"


class IncludedFiles:
    """Reads and writes included files through storages that ``open_storage`` opens by URL.

    ``remap`` replaces the beginning of recorded URLs: ``{"local:///srv/data": "local:///mnt/data"}``.
    """

    def __init__(self, open_storage: OpenStorage, *, remap: Mapping[str, str] | None = None) -> None:
        self._open = open_storage
        self._remap = dict(remap or {})

    async def load(self, included: IncludedFile, *, name: str) -> str | bytes:
        """Return the file's text or bytes. One request.

        Raises `DataMissingError` if the file is not there, `ArtifactError` for a descriptor of an unknown kind.
        """
        descriptor = included.descriptor
        uploaded = _is_uploaded(descriptor, name)
        root, path = self._place(descriptor, name)
        async with self._open(root) as storage:
            data = await read_file(storage, path)
            if data is None:
                raise _missing(descriptor, name)
            decode = partial(_decode, data, descriptor, uploaded=uploaded, limit=storage.runtime.limits.max_blob_bytes)
            try:
                return await storage.runtime.pool.run(decode)
            except (CodecError, ValueError, LookupError) as error:
                raise ArtifactError(
                    f"artifact {name!r}: included file {descriptor.get('url')!r} cannot be decoded: {error}", name=name
                ) from error

    async def size(self, included: IncludedFile, *, name: str) -> int:
        """Return the file's size in bytes as far as it is known: what is recorded, else that of the stored object."""
        recorded = included.descriptor.get("size")
        if _is_uploaded(included.descriptor, name) and isinstance(recorded, int):
            return recorded
        root, path = self._place(included.descriptor, name)
        async with self._open(root) as storage:
            meta = await storage.head(path)
        if meta is None:
            raise _missing(included.descriptor, name)
        return meta.size

    def _place(self, descriptor: Mapping[str, Any], name: str) -> tuple[str, str]:
        url = str(descriptor.get("url", ""))
        for old, new in sorted(self._remap.items(), key=lambda pair: -len(pair[0])):
            if url == old or url.startswith(old.rstrip("/") + "/"):
                url = new.rstrip("/") + url[len(old.rstrip("/")) :]
                break
        root, slash, path = url.rpartition("/")
        if "://" not in root or not slash or not path:
            raise ArtifactError(f"artifact {name!r}: {url!r} is not the URL of an included file", name=name)
        # Metaflow's name for local files is local://.
        return root.replace("local://", "file://", 1) if root.startswith("local://") else root, path


async def save_included(
    storage: DataStoreStorage, root_url: str, flow: str, data: Buffer, *, is_text: bool, encoding: str = "utf-8"
) -> IncludedFile:
    """Store a file below the datatools root ``storage``, whose URL in Metaflow's form is ``root_url``.

    A file that is there already stays. Returns the value to save as the artifact.
    """

    def pack() -> tuple[str, bytes]:
        # mtime 0: equal files give equal objects.
        return hashlib.sha1(data, usedforsecurity=False).hexdigest(), gzip.compress(data, 3, mtime=0)

    sha, packed = await storage.runtime.pool.run(pack)
    path = f"{flow}/{sha}"
    with suppress(AlreadyExistsError):  # with the same content
        await storage.put(path, packed, mode="create")
    # The order of the fields is Metaflow's: it decides the key of the artifact.
    return IncludedFile(
        {
            "type": "uploader-v2",
            "url": f"{root_url.rstrip('/')}/{path}",
            "is_text": is_text,
            "encoding": encoding,
            "note": _NOTE,
            "sub-type": UPLOADED,
            "size": memoryview(data).nbytes,
        }
    )


def _is_uploaded(descriptor: Mapping[str, Any], name: str) -> bool:
    kind = descriptor.get("type")
    if kind == "uploader-v1":
        return True
    if kind == "external":
        return False
    if kind == "uploader-v2":
        return descriptor.get("sub-type") == UPLOADED
    raise ArtifactError(f"artifact {name!r}: an included file of type {kind!r} is not known here", name=name)


def _decode(data: bytes, descriptor: Mapping[str, Any], *, uploaded: bool, limit: int) -> str | bytes:
    content = codec_named("gzip").decompress(data, max_size=limit) if uploaded else data
    if not descriptor.get("is_text"):
        return content
    # As a file opened for text: every kind of line end comes as a newline.
    return io.TextIOWrapper(io.BytesIO(content), encoding=descriptor.get("encoding") or "utf-8").read()


def _missing(descriptor: Mapping[str, Any], name: str) -> DataMissingError:
    url = descriptor.get("url")
    return DataMissingError(
        f"artifact {name!r}: included file {url!r} is not there; if the store was moved, pass remap", where=str(url)
    )
