"""Metadata in Metaflow's metadata service, or any that speaks its protocol.

Follows Netflix' metadata service 2.5 and Metaflow 2.19 ``plugins/metadata_providers/service.py``.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from contextlib import aclosing, asynccontextmanager
from types import TracebackType
from typing import Any, Final, Self

from asyncstore.errors import ConfigError, MetadataError
from asyncstore.metadata.objects import (
    TagFilter,
    check_address,
    check_attempt,
    check_list,
    check_pattern,
    is_numbered,
    path_order,
)
from asyncstore.metadata.records import BeatReply, DataArtifactRecord, Kind, MetaDatum, MetaObject
from asyncstore.metadata.rows import as_object, as_texts, parse_json
from asyncstore.metadata.service_errors import NO_ROUTE
from asyncstore.metadata.service_headers import ConfiguredHeaders, HeaderSource, StaticHeaders
from asyncstore.metadata.service_listing import ServiceListing
from asyncstore.metadata.service_paths import object_path
from asyncstore.metadata.service_registering import ServiceRegistrar
from asyncstore.metadata.service_session import ServiceSession
from asyncstore.metadata.service_transport import ServiceTransport
from asyncstore.metadata.service_url import ServiceUrl
from asyncstore.metadata.service_version import FILTERED_TASKS, HEARTBEATS, NAMED_IDS, TAG_MUTATION, is_too_old
from asyncstore.metadata.sticky import Stamper
from asyncstore.metadata.system import SystemInfo
from asyncstore.metadata.tags import check_mutation
from asyncstore.runtime import Runtime
from asyncstore.types import RetryPolicy, Timeouts

DEFAULT_WAIT: Final = 10.0
"""Seconds between heartbeats where the service asks for nothing else."""


class ServiceMetadataProvider:
    """A `MetadataProvider` over HTTP.

    ``url`` may have a path prefix. ``headers`` is a source of headers (by default those of the configuration), or
    their values, which are not pickled. ``connections`` bounds requests at once. ``ca_file`` is a file of
    certificates to trust instead of the system's. ``beat_timeout`` is the deadline of one heartbeat in seconds.

    Nothing is sent before the first call. Redirects are not followed. Pickles as its arguments; after a fork or on
    another event loop the copy opens connections of its own.
    """

    TYPE: str = "service"

    def __init__(
        self,
        url: str,
        *,
        headers: HeaderSource | Mapping[str, str] | None = None,
        runtime: Runtime | None = None,
        system: SystemInfo | None = None,
        timeouts: Timeouts | None = None,
        retry: RetryPolicy | None = None,
        connections: int = 20,
        ca_file: str | None = None,
        beat_timeout: float = 5.0,
    ) -> None:
        if isinstance(headers, Mapping):
            headers = StaticHeaders(headers)
        if connections < 1 or beat_timeout <= 0:
            raise ConfigError("connections and beat_timeout of a metadata service must be positive")
        self._url = ServiceUrl.parse(url)
        self._options: dict[str, Any] = {
            "headers": ConfiguredHeaders() if headers is None else headers,
            "runtime": runtime,
            "timeouts": timeouts or Timeouts(),
            "retry": retry or RetryPolicy(),
            "connections": connections,
            "ca_file": ca_file,
            "beat_timeout": beat_timeout,
        }
        self._owns_runtime = runtime is None
        self._runtime = Runtime() if runtime is None else runtime
        self._stamper = Stamper(system)
        session = ServiceSession(
            self._url,
            self._options["headers"],
            self._options["timeouts"],
            self._runtime.pool,
            connections,
            ca_file,
        )
        self._transport = ServiceTransport(session, self._options["retry"], self._runtime.pool)
        self._registrar = ServiceRegistrar(self._transport)
        self._listing = ServiceListing(self._transport)

    def __repr__(self) -> str:
        return f"ServiceMetadataProvider({self._url.base!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        if self._url.userinfo is not None:
            raise ConfigError(
                "a metadata service whose URL holds a user and password is not pickled; give them as headers by "
                "reference, EnvironmentHeaders((('Authorization', 'VARIABLE'),))"
            )
        return self._restored, (self._url.base, self._options, self._stamper)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections, and end the threads if they are this provider's own."""
        await self._transport.aclose()
        if self._owns_runtime:
            await self._runtime.aclose()

    @property
    def info(self) -> str:
        """The URL, without user and password."""
        return self._url.base

    async def version(self) -> str | None:
        """Ask the service for its version, or return None if it tells none."""
        await self._transport.get("/ping")
        return self._transport.version

    def add_sticky_tags(self, *, tags: Iterable[str] = (), system_tags: Iterable[str] = ()) -> None:
        """Put tags on all that this object registers from now on."""
        self._stamper.add(tags, system_tags)

    async def new_run_id(self, flow: str, *, tags: Iterable[str] = (), system_tags: Iterable[str] = ()) -> str:
        """Create a run and return its number; 1 request, up to 3 for the first run of a flow."""
        check_address(flow)
        stamp = await self._stamper.stamp(self._runtime.pool, flow, tags, system_tags)
        return await self._registrar.new_run(stamp)

    async def register_run_id(
        self, flow: str, run: str, *, tags: Iterable[str] = (), system_tags: Iterable[str] = ()
    ) -> bool:
        """Create the run called ``run`` if it is absent; return whether this call did, as far as can be told."""
        check_address(flow, run)
        stamp = await self._stamper.stamp(self._runtime.pool, flow, tags, system_tags)
        if is_numbered(run):
            return False
        await self._transport.require(NAMED_IDS, "a named run")
        return await self._registrar.named_run(stamp, run)

    async def new_task_id(
        self, flow: str, run: str, step: str, *, tags: Iterable[str] = (), system_tags: Iterable[str] = ()
    ) -> str:
        """Create a task and return its number; 2 requests, up to 4 for the first task of a step."""
        check_address(flow, run, step)
        stamp = await self._stamper.stamp(self._runtime.pool, flow, tags, system_tags)
        task = await self._registrar.new_task(stamp, run, step)
        metadata = await self._stamper.metadata(self._runtime.pool, 0)
        await self._registrar.add_metadata(stamp, run, step, task, metadata)
        return task

    async def register_task_id(
        self,
        flow: str,
        run: str,
        step: str,
        task: str,
        *,
        attempt: int = 0,
        tags: Iterable[str] = (),
        system_tags: Iterable[str] = (),
    ) -> bool:
        """Create the task called ``task`` if it is absent, and record system metadata for ``attempt``."""
        check_address(flow, run, step, task)
        check_attempt(attempt, required=True)
        stamp = await self._stamper.stamp(self._runtime.pool, flow, tags, system_tags)
        created = False
        if not is_numbered(task):
            await self._transport.require(NAMED_IDS, "a named task")
            created = await self._registrar.named_task(stamp, run, step, task)
        metadata = await self._stamper.metadata(self._runtime.pool, attempt)
        await self._registrar.add_metadata(stamp, run, step, task, metadata)
        return created

    async def register_data_artifacts(
        self, flow: str, run: str, step: str, task: str, *, attempt: int, artifacts: Iterable[DataArtifactRecord]
    ) -> None:
        """Record where the artifacts of an attempt are; one request for each 1000."""
        check_address(flow, run, step, task)
        check_attempt(attempt, required=True)
        stamp = await self._stamper.stamp(self._runtime.pool, flow)
        await self._registrar.add_artifacts(stamp, run, step, task, attempt, artifacts)

    async def register_metadata(self, flow: str, run: str, step: str, task: str, metadata: Iterable[MetaDatum]) -> None:
        """Add rows to a task's metadata; one request for each 1000."""
        check_address(flow, run, step, task)
        stamp = await self._stamper.stamp(self._runtime.pool, flow)
        await self._registrar.add_metadata(stamp, run, step, task, metadata)

    async def mutate_user_tags_for_run(
        self, flow: str, run: str, *, add: Iterable[str] = (), remove: Iterable[str] = ()
    ) -> frozenset[str]:
        """Change the user tags of a run and return those it has afterwards; the service bounds their number."""
        check_address(flow, run, least=2)
        adding, removing = check_mutation(add, remove)
        await self._transport.require(TAG_MUTATION, "changing tags")
        path = f"{object_path(flow, run)}/tag/mutate"
        reply = await self._transport.write(
            "PATCH", path, {"tags_to_add": list(adding), "tags_to_remove": list(removing)}
        )
        try:
            return frozenset(as_texts(as_object(await self._transport.decode(path, reply))["tags"]))
        except (KeyError, TypeError) as error:
            raise MetadataError(f"{self.info}{path}: the reply holds no tags ({error})", where=path) from error

    async def get_object(self, *path: str, attempt: int | None = None) -> MetaObject | None:
        """Return a flow, run, step, task or artifact, or None; 1 request."""
        check_address(*path)
        check_attempt(attempt)
        return await self._listing.object(path, attempt)

    @asynccontextmanager
    async def list_objects(
        self, kind: Kind, *path: str, filters: TagFilter | None = None, attempt: int | None = None
    ) -> AsyncGenerator[AsyncIterator[MetaObject]]:
        """Iterate over the objects of one kind below ``path``, newest first.

        Pages of 50 rows at first and 500 in the end. Steps and artifacts come whole, tasks of a run step by step.
        """
        check_list(kind, path, attempt)
        async with aclosing(self._listing.objects(kind, path, filters, attempt)) as items:
            yield items

    async def filter_tasks_by_metadata(
        self, flow: str, run: str, step: str, *, field: str | None = None, pattern: str | None = None
    ) -> list[str]:
        """Return the pathspecs of the tasks with a matching metadata row, by number; 1 request.

        The service reads ``pattern`` as PostgreSQL does, which is Python's way for all but rare constructs.
        """
        check_address(flow, run, step)
        check_pattern(pattern)
        await self._transport.require(FILTERED_TASKS, "filtering tasks")
        path = f"{object_path(flow, run, step)}/filtered_tasks"
        query = [(key, value) for key, value in (("metadata_field_name", field), ("pattern", pattern)) if value]
        reply = await self._transport.decode(path, await self._transport.get(path, query))
        try:
            return sorted(as_texts(reply), key=lambda pathspec: path_order(tuple(pathspec.split("/"))))
        except TypeError as error:
            raise MetadataError(f"{self.info}{path}: {error}; check the URL", where=path) from error

    async def beat(self, flow: str, run: str, step: str | None = None, task: str | None = None) -> BeatReply:
        """Tell that a run or task is alive; one request, tried once.

        ``wait`` is None for a service too old to keep heartbeats. A refusal other than 404 raises.
        """
        ids = check_address(*(piece for piece in (flow, run, step, task) if piece is not None), least=2)
        no_heartbeats = BeatReply(accepted=False, wait=None)
        if is_too_old(self._transport.version, HEARTBEATS):
            return no_heartbeats
        path = f"{object_path(*ids)}/heartbeat"
        reply = await self._transport.once(path, self._options["beat_timeout"])
        if reply.status == 404 and reply.text.startswith(NO_ROUTE):
            return no_heartbeats
        if reply.status >= 300 and reply.status != 404:
            raise self._transport.error("POST", path, reply)
        return BeatReply(accepted=reply.status < 300, wait=_seconds_to_wait(reply.text))

    @classmethod
    def _restored(cls, url: str, options: dict[str, Any], stamper: Stamper) -> Self:
        provider = cls(url, **options)
        provider._stamper = stamper
        return provider


def _seconds_to_wait(text: str) -> float:
    """Return what a heartbeat's reply asks for: JSON in a JSON string, or plain JSON."""
    value: Any = text
    try:
        while isinstance(value, str):
            value = parse_json(value)
        seconds = float(as_object(value)["wait_time_in_seconds"])
    except (KeyError, TypeError, ValueError, OverflowError):
        return DEFAULT_WAIT
    return seconds if 0 < seconds < math.inf else DEFAULT_WAIT
