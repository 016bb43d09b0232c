"""What a metadata provider is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from asyncstore.metadata.objects import TagFilter
from asyncstore.metadata.records import BeatReply, DataArtifactRecord, Kind, MetaDatum, MetaObject


class MetadataProvider(Protocol):
    """Keeps the metadata of flows, runs, steps and tasks.

    All that register something name the flow, so one provider serves any number of flows. Flows, steps, named runs
    and named tasks are created when absent; they and artifacts may be registered again without harm. What is below
    something unknown raises `TaskNotFoundError`, an illegal address `InvalidPathspecError`, tags against the rules
    `TaggingError`, a refusal `MetadataError`; a service that cannot be reached in time `MetadataUnavailableError`.

    If cancelled: what was to be registered may or may not be. A repeated ``new_…`` then may leave one unused number,
    a repeated ``register_metadata`` a duplicate row; both are harmless.
    """

    TYPE: str
    """Metaflow's name for this kind of provider: "local" or "service"."""

    @property
    def info(self) -> str:
        """Where it keeps things, in Metaflow's form, without credentials."""
        ...

    async def version(self) -> str | None:
        """Return "local", or the version of the service, None if it tells none."""
        ...

    def add_sticky_tags(self, *, tags: Iterable[str] = (), system_tags: Iterable[str] = ()) -> None:
        """Put tags on each run, step, task and artifact that this object registers from now on."""
        ...

    async def new_run_id(self, flow: str, *, tags: Iterable[str] = (), system_tags: Iterable[str] = ()) -> str:
        """Create a run and return its number."""
        ...

    async def register_run_id(
        self, flow: str, run: str, *, tags: Iterable[str] = (), system_tags: Iterable[str] = ()
    ) -> bool:
        """Create the run called ``run`` if it is absent; return whether this call did. Numbers are left alone."""
        ...

    async def new_task_id(
        self, flow: str, run: str, step: str, *, tags: Iterable[str] = (), system_tags: Iterable[str] = ()
    ) -> str:
        """Create a task, record system metadata for attempt 0, and return the task's number."""
        ...

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
        """Create the task called ``task`` if it is absent; return whether this call did. Numbers are left alone.

        System metadata is recorded for ``attempt`` either way.
        """
        ...

    async def register_data_artifacts(
        self,
        flow: str,
        run: str,
        step: str,
        task: str,
        *,
        attempt: int,
        artifacts: Iterable[DataArtifactRecord],
    ) -> None:
        """Record where the artifacts of an attempt are; those that are recorded already stay as they are."""
        ...

    async def register_metadata(self, flow: str, run: str, step: str, task: str, metadata: Iterable[MetaDatum]) -> None:
        """Add rows to a task's metadata."""
        ...

    async def mutate_user_tags_for_run(
        self, flow: str, run: str, *, add: Iterable[str] = (), remove: Iterable[str] = ()
    ) -> frozenset[str]:
        """Change the user tags of a run and return those it has afterwards; nothing else of it changes.

        Removal comes first. System tags are not added again; removing one raises `TaggingError` and changes nothing.
        Concurrent changes all take effect.
        """
        ...

    async def get_object(self, *path: str, attempt: int | None = None) -> MetaObject | None:
        """Return a flow, run, step, task or artifact (one to five ids), or None if there is none.

        ``attempt`` is for artifacts; None is the latest attempt: of a local provider the latest that is done, of a
        service the latest that has artifacts.
        """
        ...

    def list_objects(
        self, kind: Kind, *path: str, filters: TagFilter | None = None, attempt: int | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[MetaObject]]:
        """Iterate over the objects of one kind below ``path``, newest first; nothing if ``path`` does not exist.

        Flows are listed below nothing, runs below a flow, steps below a run, tasks below a run or step, artifacts
        below a run, step or task, metadata below a run or task. ``attempt`` is one of a task, for its artifacts (as
        in `get_object`) and its metadata (None is all of it). Services are asked page by page, as the iteration
        goes on.
        """
        ...

    async def filter_tasks_by_metadata(
        self, flow: str, run: str, step: str, *, field: str | None = None, pattern: str | None = None
    ) -> list[str]:
        """Return the pathspecs of the tasks with a metadata row of this field (None is any) whose value ``pattern``
        is found in (None is any).

        ``pattern`` is a regular expression, searched as in `re.search`: anchor it, or ``a:1`` finds ``a:10`` too.
        """
        ...

    async def beat(self, flow: str, run: str, step: str | None = None, task: str | None = None) -> BeatReply:
        """Tell that a run, or a task of it, is alive; one try with a short deadline."""
        ...

    async def aclose(self) -> None:
        """Let go of what is open. A second call does nothing."""
        ...


async def fetch_objects(
    provider: MetadataProvider, kind: Kind, *path: str, filters: TagFilter | None = None, attempt: int | None = None
) -> list[MetaObject]:
    """Return all that `MetadataProvider.list_objects` gives."""
    async with provider.list_objects(kind, *path, filters=filters, attempt=attempt) as items:
        return [item async for item in items]
