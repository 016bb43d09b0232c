"""Abort the uploads in parts that processes left open when they died; their parts take space until then."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from asyncstore.concurrency import run_all
from asyncstore.storage.base import DataStoreStorage, OpenUpload, SupportsOpenUploads

WIDTH = 16


async def abort_open_uploads(
    storage: DataStoreStorage, *, older_than: timedelta, now: datetime | None = None
) -> list[OpenUpload]:
    """Abort each upload that began more than ``older_than`` ago, and return them, oldest first.

    Give it more time than the longest upload of a living process takes: that one would fail. An upload whose
    beginning the server does not tell is left alone. One request for each 1000 open uploads and one for each abort;
    nothing where the storage has no such uploads.
    """
    uploads = storage.power(SupportsOpenUploads)
    if uploads is None:
        return []
    limit = (now or datetime.now(UTC)) - older_than
    dated = [(upload.started, upload) for upload in await uploads.open_uploads() if upload.started is not None]
    stale = [upload for started, upload in sorted(dated, key=lambda each: each[0]) if started < limit]
    await run_all(stale, uploads.abort_upload, width=WIDTH)
    return stale
