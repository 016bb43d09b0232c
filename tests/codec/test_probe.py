"""What does not shrink is stored raw, and nothing else is."""

from __future__ import annotations

import array
import json
import pickle
import random
import zlib
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncstore.codec.probe import MIN_BYTES, SAMPLE_BYTES, WHOLE_BYTES, Sampler, encode, pays, samples_of, shrinks
from asyncstore.codec.registry import codec_named
from asyncstore.types import KIB, MIB
from tests.codec.contents import mixture, noise, text

GZIP, LZ4, RAW = (codec_named(name) for name in ("gzip", "lz4", "raw"))


def doubles(size: int) -> bytes:
    random_ = random.Random(1)
    return array.array("d", [random_.random() for _ in range(size // 8)]).tobytes()


def json_rows(size: int) -> bytes:
    return json.dumps([{"id": row, "name": f"row {row % 97}"} for row in range(size // 20)]).encode()


SHRINKING: dict[str, Callable[[int], bytes]] = {
    "text": text,
    "zeros": bytes,
    "json": json_rows,
    "half of it": mixture,
    "the last quarter": lambda size: noise(size - size // 4) + text(size // 4),
    "the first quarter": lambda size: text(size // 4) + noise(size - size // 4),
    "every second page": lambda size: (noise(4096) + text(4096)) * (size // 8192),
}
INCOMPRESSIBLE: dict[str, Callable[[int], bytes]] = {
    "noise": noise,
    "compressed already": lambda size: zlib.compress(noise(size).hex().encode(), 9)[:size],
    "a text header": lambda size: text(min(2000, size // 64)) + noise(size - min(2000, size // 64)),
}
SIZES = [WHOLE_BYTES // 2, WHOLE_BYTES, WHOLE_BYTES + 1, 300 * KIB, MIB, 9 * MIB]


def sampled(content):
    sampler = Sampler()
    for at in range(0, len(content), 512 * KIB):
        sampler.feed(memoryview(content)[at : at + 512 * KIB])
    return sampler.samples


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", SHRINKING)
def test_content_that_shrinks_is_compressed(kind, size):
    content = SHRINKING[kind](size)
    for codec in (GZIP, LZ4):
        used, stored = encode(content, codec)
        assert used.name == codec.name
        assert len(stored) < len(content)
        assert codec.decompress(stored, max_size=len(content)) == content


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", INCOMPRESSIBLE)
def test_content_that_does_not_shrink_is_stored_raw(kind, size):
    content = INCOMPRESSIBLE[kind](size)
    for codec in (GZIP, LZ4):
        used, stored = encode(content, codec)
        assert used.name == "raw"
        assert stored is content


@pytest.mark.parametrize("kind", SHRINKING)
def test_samples_of_passing_pieces_judge_as_samples_of_the_whole(kind):
    content = SHRINKING[kind](18 * MIB)
    for codec in (GZIP, LZ4):
        assert shrinks(sampled(content), codec)
        assert shrinks(samples_of(content), codec)


def test_a_long_stream_keeps_bounded_samples_that_lie_all_over_it():
    sampler = Sampler()
    for number in range(5000):
        sampler.feed(b"%d " % number * 8000)
    assert 16 <= len(sampler.samples) < 32
    assert all(len(sample) <= SAMPLE_BYTES for sample in sampler.samples)
    numbers = [int(sample.split()[1]) for sample in sampler.samples]
    gaps = {after - before for before, after in pairwise(numbers)}
    assert len(gaps) == 1, "evenly spaced"
    assert numbers[0] == 0
    assert numbers[-1] >= 5000 - 2 * gaps.pop()


def test_doubles_of_full_precision_shrink_with_gzip_and_not_with_lz4():
    content = doubles(MIB)
    assert encode(content, GZIP)[0].name == "gzip"
    assert encode(content, LZ4)[0].name == "raw"


def test_small_pickles_are_stored_in_whatever_is_smaller():
    for value in (None, 1, 3.14, "hello", [1, 2, 3], {"a": 1}, list(range(200)), {f"key {n}": n for n in range(100)}):
        content = pickle.dumps(value, 4)
        for codec in (GZIP, LZ4):
            used, stored = encode(content, codec)
            assert len(stored) <= min(len(content), max(MIN_BYTES, len(codec.compress(content)))), value
            assert used.decompress(stored, max_size=len(content)) == content


@given(content=st.binary(max_size=3000) | st.binary(min_size=1, max_size=4).map(lambda unit: unit * 400))
def test_a_stored_form_never_grows_and_always_decodes(content):
    for codec in (GZIP, LZ4, RAW):
        used, stored = encode(content, codec)
        assert len(stored) <= len(content)
        assert used.decompress(stored, max_size=len(content)) == content


@pytest.mark.parametrize("size", [WHOLE_BYTES + 1, 500_001, MIB, 3 * MIB + 7, 9 * MIB])
def test_samples_lie_in_each_quarter_of_the_content_and_do_not_overlap(size):
    content = noise(size)
    samples = samples_of(content)
    starts = [content.find(sample) for sample in samples]
    assert 4 <= len(samples) <= 16
    assert all(len(sample) == SAMPLE_BYTES for sample in samples)
    assert {4 * start // size for start in starts} == {0, 1, 2, 3}
    assert all(after - before >= SAMPLE_BYTES for before, after in pairwise(starts))


def test_a_gain_of_a_thirty_second_pays():
    assert pays(3200, 3100)
    assert not pays(3200, 3101)
    assert not pays(10, 10)
    assert not pays(0, 0)


def test_no_samples_do_not_shrink():
    assert not shrinks([], GZIP)
