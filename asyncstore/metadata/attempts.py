"""Which metadata rows belong to one attempt: pure.

Follows Metaflow 2.19 ``metadata_provider/metadata.py``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from asyncstore.metadata.records import MetaObject

_ATTEMPT_TAG = re.compile(r"attempt_id:(\d+)")

ATTEMPT_FIELD = "attempt"
ATTEMPT_DONE_FIELD = "attempt-done"


def attempt_tag(attempt: int) -> str:
    """Return the tag of a metadata row that belongs to an attempt."""
    return f"attempt_id:{attempt}"


def tagged_attempt(tags: Iterable[str]) -> int | None:
    """Return the attempt that the first tag of this form names, or None."""
    for tag in tags:
        match = _ATTEMPT_TAG.match(tag)
        if match:
            return int(match[1])
    return None


def rows_of_attempt(rows: Sequence[MetaObject], attempt: int | None) -> list[MetaObject]:
    """Return the rows of one task that belong to ``attempt``, in their order; None means all.

    By tag if every row has one. Otherwise by time: an attempt lasts from its ``attempt`` row (included) to that of
    the next one (not included). So a task without ``attempt`` rows, as ``_parameters``, shows none.
    """
    if attempt is None:
        return list(rows)
    if all(row.attempt is not None for row in rows):
        return [row for row in rows if row.attempt == attempt]
    starts: dict[int, int] = {}
    for row in sorted(rows, key=lambda row: row.ts_epoch):
        if row.datum is not None and row.datum.field == ATTEMPT_FIELD and str(row.datum.value).isdecimal():
            starts[int(str(row.datum.value))] = row.ts_epoch
    if attempt not in starts:
        return []
    begin = starts[attempt]
    end = starts.get(attempt + 1)
    return [row for row in rows if begin <= row.ts_epoch and (end is None or row.ts_epoch < end)]
