"""Names and attributes lead to the right codec, or to an error that says what was found."""

from __future__ import annotations

import gzip

import pytest

from asyncstore.codec.registry import codec_named, codec_of, declared_size, other_readings
from asyncstore.errors import CodecError, ConfigError


@pytest.mark.parametrize("name", ["gzip", "lz4", "raw"])
def test_a_codec_is_found_by_its_name_and_by_its_own_attributes(name):
    codec = codec_named(name)
    assert codec.name == name
    assert codec_of(codec.attributes(10)).name == name
    assert declared_size(codec.attributes(10)) == 10


def test_an_unknown_name_is_answered_with_the_choices():
    with pytest.raises(ConfigError, match="unknown codec 'zstd'; choose one of gzip, lz4, raw"):
        codec_named("zstd")


@pytest.mark.parametrize(
    ("attributes", "name"),
    [
        (None, "gzip"),
        ({}, "gzip"),
        ({"cas_raw": False, "cas_version": 1}, "gzip"),
        ({"cas_version": 1}, "gzip"),
        ({"cas_raw": True, "cas_version": 1}, "raw"),
        ({"cas_raw": True}, "raw"),
        ({"cas_raw": True, "cas_version": 99}, "raw"),
    ],
)
def test_attributes_are_read_as_metaflow_reads_them(attributes, name):
    assert codec_of(attributes).name == name


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"cas_raw": False}, "cas_version is missing"),
        ({"something": "else"}, "cas_version is missing"),
        ({"cas_version": 2}, "cas_version=2"),
        ({"cas_version": "1"}, "cas_version='1'"),
        ({"cas_version": None}, "cas_version=None"),
        ({"cas_version": 1001}, "cas_codec=None"),
        ({"cas_version": 1001, "cas_codec": "lz4-block"}, "cas_codec='lz4-block'"),
        ({"cas_version": 1001, "cas_codec": ["lz4-frame"]}, "cas_codec="),
    ],
)
def test_an_unknown_encoding_is_an_error_that_shows_the_attributes(attributes, words):
    with pytest.raises(CodecError, match=words.replace("[", r"\[")):
        codec_of(attributes)


@pytest.mark.parametrize("size", [-1, 2**63, 1.0, "7", None, True, [7]])
def test_a_declared_size_that_cannot_be_is_none(size):
    assert declared_size({"cas_size": size}) is None


def test_no_attributes_declare_no_size():
    assert declared_size(None) is None
    assert declared_size({}) is None


def test_other_readings_follow_the_first_bytes():
    content = b"some content " * 100
    stored = {name: codec_named(name).compress(content) for name in ("gzip", "lz4", "raw")}
    stored["gzip"] = gzip.compress(content)
    expected = {
        ("gzip", "gzip"): ("raw",),
        ("gzip", "lz4"): ("lz4", "raw"),
        ("gzip", "raw"): ("raw",),
        ("lz4", "gzip"): ("gzip", "raw"),
        ("lz4", "lz4"): ("raw",),
        ("lz4", "raw"): ("raw",),
        ("raw", "gzip"): ("gzip",),
        ("raw", "lz4"): ("lz4",),
        ("raw", "raw"): (),
    }
    for (stated, true), names in expected.items():
        found = other_readings(codec_named(stated), stored[true])
        assert tuple(codec.name for codec in found) == names, (stated, true)
    assert [codec.name for codec in other_readings(codec_named("gzip"), b"")] == ["raw"]
