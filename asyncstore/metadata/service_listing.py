"""Objects and lists of a metadata service, page by page where the service can."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final

from asyncstore.errors import MetadataError
from asyncstore.metadata.attempts import rows_of_attempt
from asyncstore.metadata.objects import LEVELS, TagFilter, newest_first
from asyncstore.metadata.records import Kind, MetaObject
from asyncstore.metadata.rows import as_list, parse_row
from asyncstore.metadata.service_paths import attempt_path, list_path, object_path
from asyncstore.metadata.service_transport import ServiceTransport
from asyncstore.metadata.service_version import ATTEMPTS

FIRST_PAGE: Final = 50
LARGEST_PAGE: Final = 500
"""More rows than this no service gives in one page."""
LIMIT_HEADER: Final = "X-Limit"
CURSOR_HEADER: Final = "X-Next-Cursor"

_PAGED: Final = frozenset({"flow", "run", "task", "metadata"})
"""Steps come whole always. Artifacts too: in pages the service shows those that only an older attempt has."""


@dataclass(frozen=True, slots=True)
class ServiceListing:
    """Answers the questions of `MetadataProvider.get_object` and `list_objects` by requests."""

    transport: ServiceTransport

    async def object(self, path: tuple[str, ...], attempt: int | None) -> MetaObject | None:
        """Return a flow, run, step, task or artifact, by one request."""
        kind = LEVELS[len(path) - 1]
        where = object_path(*path)
        if kind == "artifact" and attempt is not None:
            await self.transport.require(ATTEMPTS, "looking up an attempt")
            where = attempt_path(*path, attempt=attempt)
        row = await self.transport.get_or_none(where)
        return None if row is None else parse_row(kind, row, where)

    async def objects(
        self, kind: Kind, path: tuple[str, ...], filters: TagFilter | None, attempt: int | None
    ) -> AsyncGenerator[MetaObject]:
        """Yield the objects of one kind below ``path``, newest first."""
        if kind == "task" and len(path) == 2:
            found = self._tasks_of_run(path)
        elif kind == "metadata" and attempt is not None:
            found = self._metadata_of_attempt(path, attempt)
        else:
            found = self._rows(kind, path, filters, attempt if kind == "artifact" else None)
        async with aclosing(found):
            async for item in found:
                if filters is None or filters.admits(item):
                    yield item

    async def _tasks_of_run(self, run: tuple[str, ...]) -> AsyncGenerator[MetaObject]:
        tasks: list[MetaObject] = []
        for step in await self._all("step", run):
            tasks += await self._all("task", step.path)
        for task in newest_first(tasks):
            yield task

    async def _metadata_of_attempt(self, task: tuple[str, ...], attempt: int) -> AsyncGenerator[MetaObject]:
        for row in rows_of_attempt(await self._all("metadata", task), attempt):
            yield row

    async def _all(self, kind: Kind, path: tuple[str, ...]) -> list[MetaObject]:
        async with aclosing(self._rows(kind, path, None, None)) as rows:
            return [row async for row in rows]

    async def _rows(
        self, kind: Kind, path: tuple[str, ...], filters: TagFilter | None, attempt: int | None
    ) -> AsyncGenerator[MetaObject]:
        if attempt is not None:
            await self.transport.require(ATTEMPTS, "looking up an attempt")
        where = list_path(kind, *path, attempt=attempt)
        query = _tag_query(filters) if kind == "run" else []
        limit, cursor = FIRST_PAGE, ""
        while True:
            paging = [("_limit", str(limit))] if kind in _PAGED else []
            paging += [("_cursor", cursor)] if cursor else []
            reply = await self.transport.get(where, [*query, *paging])
            try:
                rows = as_list(await self.transport.decode(where, reply))
            except TypeError as error:
                raise MetadataError(f"{self.transport.base}{where}: {error}; check the URL", where=where) from error
            # A service that knows no pages ignores the limit and gives everything, in no order.
            in_order = LIMIT_HEADER in reply.headers
            for item in await self.transport.work(len(rows), _parsed, kind, rows, where, in_order):
                yield item
            following = reply.headers.get(CURSOR_HEADER, "")
            if not following:
                return
            if following == cursor:
                raise MetadataError(f"{self.transport.base}{where}: a page points to itself; upgrade the service")
            # Small at first, for those who want the latest only.
            limit, cursor = min(2 * limit, LARGEST_PAGE), following


def _parsed(kind: Kind, rows: list[Any], where: str, in_order: bool) -> list[MetaObject]:  # noqa: FBT001  # through a thread
    items = [parse_row(kind, row, where) for row in rows]
    return items if in_order else newest_first(items)


def _tag_query(filters: TagFilter | None) -> list[tuple[str, str]]:
    """Return the parameter that lets the service leave out runs which the filter would; it need not leave out all.

    The service splits values at commas and takes ``null`` for an absent value, so such tags are looked at here only.
    """
    if filters is None:
        return []
    wanted = sorted({*filters.any_tags, *filters.tags, *filters.system_tags})
    sendable = [tag for tag in wanted if tag and tag != "null" and "," not in tag]
    return [("_tags:all", ",".join(sendable))] if sendable else []
