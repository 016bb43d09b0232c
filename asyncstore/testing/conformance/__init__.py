"""The storage contract as a suite, which every backend and every wrapper passes whole.

A backend joins with a fixture:

>>> class TestMyStorage(StorageConformance):
...     @pytest.fixture
...     async def harness(self) -> AsyncGenerator[Harness]:
...         async with Runtime() as runtime:
...             yield Harness(MyStorage("x", runtime=runtime), MyRawAccess("x"), Traits("mine"))

What its server cannot do is a row in `asyncstore.testing.traits`, with the reason; no case is overridden or skipped.
Call ``pytest.register_assert_rewrite("asyncstore.testing")`` in ``conftest.py`` to see values in failed asserts.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from asyncstore.testing.conformance.abilities import BareReadCases, BatchCases, CopyCases, OpenUploadCases
from asyncstore.testing.conformance.absence import AbsenceCases
from asyncstore.testing.conformance.attributes import AttributeCases
from asyncstore.testing.conformance.behind import BehindCases
from asyncstore.testing.conformance.cancellation import CancellationCases
from asyncstore.testing.conformance.concurrency import ConcurrencyCases
from asyncstore.testing.conformance.delete import DeleteCases
from asyncstore.testing.conformance.handles import HandleCases
from asyncstore.testing.conformance.helpers import nothing_borrowed
from asyncstore.testing.conformance.listing import ListingCases
from asyncstore.testing.conformance.multipart import MultipartCases
from asyncstore.testing.conformance.naming import NameCases
from asyncstore.testing.conformance.race import RaceCases
from asyncstore.testing.conformance.ranges import RangeCases
from asyncstore.testing.conformance.write import WriteCases
from asyncstore.testing.harness import Harness, RawAccess, RawObject
from asyncstore.testing.traits import Traits

__all__ = ["Harness", "RawAccess", "RawObject", "StorageConformance", "Traits"]


class StorageConformance(
    AbsenceCases,
    WriteCases,
    AttributeCases,
    RangeCases,
    NameCases,
    ListingCases,
    DeleteCases,
    RaceCases,
    MultipartCases,
    BatchCases,
    BareReadCases,
    CopyCases,
    OpenUploadCases,
    ConcurrencyCases,
    CancellationCases,
    BehindCases,
    HandleCases,
):
    """All cases. A subclass defines the fixture ``harness``, which gives an empty storage to each."""

    pytestmark = pytest.mark.anyio

    @pytest.fixture
    def anyio_backend(self) -> str:
        """Run on asyncio; a subclass may override it to choose uvloop."""
        return "asyncio"

    @pytest.fixture(autouse=True)
    async def _nothing_is_left_borrowed(self, harness: Harness) -> AsyncGenerator[None]:
        yield
        await nothing_borrowed(harness)
