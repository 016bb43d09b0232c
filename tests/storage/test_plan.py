"""Parts fit the storage's limits and the memory, for every size."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncstore.errors import StorageError
from asyncstore.storage.base import MultipartLimits
from asyncstore.storage.plan import PART, WIDTH, Plan, plan_download, plan_parts, plan_upload
from asyncstore.types import GIB, KIB, MIB

S3 = MultipartLimits(min_part=5 * MIB, max_part=5 * GIB, max_parts=10_000)
CLOUDS = {
    "s3": S3,
    "azure": MultipartLimits(min_part=1, max_part=4000 * MIB, max_parts=50_000),
    "gs": MultipartLimits(min_part=1, max_part=5 * GIB, max_parts=1024),
    "memory": MultipartLimits(min_part=1, max_part=64 * MIB, max_parts=100_000),
}
limits = st.builds(
    lambda low, more, parts: MultipartLimits(low, low + more, parts),
    st.integers(1, 10 * MIB),
    st.integers(0, 5 * GIB),
    st.integers(1, 50_000),
)


@given(limits=limits, max_size=st.integers(0, 10_000 * GIB), memory=st.integers(1, 64 * GIB))
def test_an_upload_of_any_size_that_the_storage_takes_is_planned_within_its_limits(limits, max_size, memory):
    if max_size > limits.max_part * limits.max_parts:
        with pytest.raises(StorageError, match="too large for this storage"):
            plan_upload(limits, max_size, memory=memory)
        return
    plan = plan_upload(limits, max_size, memory=memory)
    assert 1 <= plan.width <= WIDTH
    if max_size > plan.part_size:
        assert limits.min_part <= plan.part_size <= limits.max_part
        assert plan.count(max_size) <= limits.max_parts
        assert plan.width <= plan.count(max_size)
        assert plan.width == 1 or plan.window <= memory
    else:
        assert plan == Plan(max(1, max_size), 1)


@given(limits=limits, max_size=st.integers(0, 1000 * GIB), smaller=st.integers(0, 1000 * GIB))
def test_a_larger_object_never_gets_smaller_parts(limits, max_size, smaller):
    if smaller <= max_size <= limits.max_part * limits.max_parts:
        assert plan_parts(limits, smaller) <= plan_parts(limits, max_size)


@pytest.mark.parametrize("name", CLOUDS)
def test_parts_are_of_the_preferred_size_until_there_would_be_too_many(name):
    cloud = CLOUDS[name]
    assert plan_parts(cloud, 100 * MIB) == PART
    assert plan_parts(cloud, cloud.max_parts * PART) == PART
    assert plan_parts(cloud, cloud.max_parts * PART + 1) == PART + MIB


def test_the_largest_s3_object_is_planned():
    assert plan_parts(S3, 5 * 1024 * GIB) == 525 * MIB
    assert plan_upload(S3, 5 * 1024 * GIB, memory=256 * MIB) == Plan(525 * MIB, 1)
    assert plan_upload(S3, 5 * 1024 * GIB, memory=2 * GIB) == Plan(525 * MIB, 3)


def test_a_window_is_at_most_24_mib_and_at_most_the_memory():
    for memory in (64 * KIB, MIB, 10 * MIB, 256 * MIB, 64 * GIB):
        assert plan_download(memory=memory).window <= min(24 * MIB, memory)
    assert plan_download(memory=256 * MIB) == Plan(PART, WIDTH)
    assert plan_download(memory=1) == Plan(64 * KIB, 1), "parts do not shrink without end"


@given(size=st.integers(1, GIB), part_size=st.integers(MIB, 8 * MIB))
def test_the_parts_of_a_plan_cover_the_object_without_gap_or_overlap(size, part_size):
    plan = Plan(part_size, 4)
    at = 0
    for number in range(plan.count(size)):
        part = plan.part(number, size)
        assert part.start == at
        assert part.stop is not None
        at = part.stop
    assert at == size
