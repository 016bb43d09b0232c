"""What the parts of the suite share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeAlias

import pytest

from asyncstore.metadata.base import MetadataProvider
from asyncstore.metadata.records import DataArtifactRecord, MetaDatum

FLOW = "SuiteFlow"
OTHER_FLOW = "OtherSuiteFlow"

RawRun: TypeAlias = Callable[[str, str], dict[str, Any]]
"""Returns the stored document of a run (flow, run) without going through the provider: tags, owner, creation time."""


class ProviderCase:
    """Fixtures that a subclass gives: `open_provider` and `raw_run`."""

    @pytest.fixture
    def open_provider(self) -> Callable[[], AbstractAsyncContextManager[MetadataProvider]]:
        """Return what opens a further handle on one store, which is empty when a test begins."""
        raise NotImplementedError("give a fixture open_provider")

    @pytest.fixture
    def raw_run(self) -> RawRun:
        """Return what looks at a stored run behind the provider's back."""
        raise NotImplementedError("give a fixture raw_run")

    @pytest.fixture
    async def provider(
        self, open_provider: Callable[[], AbstractAsyncContextManager[MetadataProvider]]
    ) -> AsyncIterator[MetadataProvider]:
        """A provider for the test."""
        async with open_provider() as provider:
            yield provider

    @pytest.fixture
    async def other(
        self, open_provider: Callable[[], AbstractAsyncContextManager[MetadataProvider]]
    ) -> AsyncIterator[MetadataProvider]:
        """A second handle on the same store, which shares no memory with the first."""
        async with open_provider() as provider:
            yield provider


def datum(field: str, value: Any = "v", *, attempt: int | None = 0, kind: str | None = None) -> MetaDatum:
    """Return a metadata row, of an attempt unless that is None."""
    tags = () if attempt is None else (f"attempt_id:{attempt}",)
    return MetaDatum(field, value, field if kind is None else kind, tags)


def artifact(name: str, content: str = "0") -> DataArtifactRecord:
    """Return an artifact's record; ``content`` tells keys apart."""
    return DataArtifactRecord(name, "local", "/data/.metaflow", None, "pickle-v4", content.rjust(40, "0"))


async def done(provider: MetadataProvider, run: str, step: str, task: str, attempt: int, *names: str) -> None:
    """Register artifacts and the end of an attempt, in a datastore's order; ``name`` is what every attempt has."""
    rows = [datum("attempt-done", str(attempt), attempt=attempt)]
    await provider.register_metadata(FLOW, run, step, task, rows)
    records = [artifact(name, str(attempt)) for name in ("name", *names)]
    await provider.register_data_artifacts(FLOW, run, step, task, attempt=attempt, artifacts=records)
