"""Damaged, cut, forged and hostile streams: a CodecError, never anything else, never more bytes than allowed."""

from __future__ import annotations

import gzip
import struct
import tracemalloc
import zlib
from contextlib import suppress

import lz4.frame
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncstore.errors import CodecError
from asyncstore.types import KIB, MIB
from tests.codec.contents import CODECS, COMPRESSING, decoded, foreign_streams, gzip_with_every_field, mixture, text

CONTENT = mixture(400) + text(300)


@pytest.fixture(params=COMPRESSING)
def codec(request):
    return CODECS[request.param]


def streams(codec):
    return {"ours": codec.compress(CONTENT), **foreign_streams(codec, CONTENT)}


def test_a_stream_cut_at_any_byte_is_refused(codec):
    for writer, stored in streams(codec).items():
        if writer == "padding":
            continue  # its padding may end anywhere
        boundaries = _member_ends(stored) if writer == "members" else set()
        for size in set(range(len(stored))) - boundaries:
            with pytest.raises(CodecError):
                codec.decompress(stored[:size], max_size=len(CONTENT))
            with pytest.raises(CodecError):
                decoded(codec, stored[:size])


def _member_ends(stored: bytes) -> set[int]:
    ends, rest = set(), stored
    while rest:
        member = zlib.decompressobj(31)
        member.decompress(rest)
        rest = member.unused_data
        ends.add(len(stored) - len(rest))
    return ends


def test_bytes_after_the_end_are_refused(codec):
    for stored in streams(codec).values():
        for extra in (b"x", b"\x00x", b"garbage" * 10_000):
            with pytest.raises(CodecError, match="go on after the end"):
                codec.decompress(stored + extra, max_size=len(CONTENT))
            with pytest.raises(CodecError, match="go on after the end"):
                decoded(codec, stored + extra)
            with pytest.raises(CodecError, match="go on after the end"):
                decoded(codec, stored + extra, step=1)


def test_a_second_lz4_frame_is_refused():
    codec = CODECS["lz4"]
    for first in (codec.compress(CONTENT), lz4.frame.compress(CONTENT)):
        with pytest.raises(CodecError, match="go on after the end"):
            codec.decompress(bytes(first) + bytes(codec.compress(b"x")), max_size=2 * len(CONTENT))


@pytest.mark.parametrize("name", ["gzip", "gzip without isal"])
def test_no_flipped_bit_of_a_gzip_stream_changes_the_content_unseen(name):
    codec = CODECS[name]
    for stored in (codec.compress(CONTENT), gzip_with_every_field(CONTENT)):
        for bit in range(8 * len(stored)):
            flipped = bytearray(stored)
            flipped[bit // 8] ^= 1 << bit % 8
            for read in (lambda data: codec.decompress(data, max_size=10 * KIB), lambda data: decoded(codec, data)):
                with suppress(CodecError):
                    assert read(bytes(flipped)) == CONTENT


def test_no_flipped_bit_makes_a_decoder_fail_otherwise(codec):
    stored = codec.compress(CONTENT)
    for bit in range(8 * len(stored)):
        flipped = bytearray(stored)
        flipped[bit // 8] ^= 1 << bit % 8
        for read in (lambda data: codec.decompress(data, max_size=10 * KIB), lambda data: decoded(codec, data)):
            with suppress(CodecError):
                read(bytes(flipped))


@pytest.mark.parametrize("name", ["gzip", "gzip without isal"])
@pytest.mark.parametrize("place", [-8, -4])
def test_a_wrong_check_or_size_in_the_trailer_is_refused(name, place):
    stored = bytearray(CODECS[name].compress(CONTENT))
    stored[place] ^= 1
    with pytest.raises(CodecError):
        CODECS[name].decompress(bytes(stored), max_size=len(CONTENT))
    with pytest.raises(CodecError):
        decoded(CODECS[name], bytes(stored))


def test_content_of_exactly_the_allowed_size_is_given_and_one_byte_more_is_refused():
    for name, codec in CODECS.items():
        for size in (1, 1000, 300 * KIB, 2 * MIB):
            stored = codec.compress(text(size))
            assert codec.decompress(stored, max_size=size) == text(size), name
            with pytest.raises(CodecError, match=f"{size - 1} bytes that are allowed"):
                codec.decompress(stored, max_size=size - 1)


def test_the_allowed_size_holds_over_all_members():
    stored = gzip.compress(text(1000)) + gzip.compress(text(1000))
    assert len(CODECS["gzip"].decompress(stored, max_size=2000)) == 2000
    with pytest.raises(CodecError, match="1999 bytes that are allowed"):
        CODECS["gzip"].decompress(stored, max_size=1999)


def bombs(codec):
    zeros = bytes(64 * MIB)
    if codec.name == "gzip":
        yield gzip.compress(zeros, 9)
        yield gzip.compress(b"") + gzip.compress(zeros, 1)
    else:
        yield codec.compress(zeros)
        yield lz4.frame.compress(zeros, block_size=lz4.frame.BLOCKSIZE_MAX4MB)
        # A header that claims a terabyte.
        yield b"\x04\x22\x4d\x18" + _lz4_header_with_size(1 << 40) + codec.compress(text(100))[7:]


def _lz4_header_with_size(size: int) -> bytes:
    genuine = lz4.frame.LZ4FrameCompressor().begin(source_size=size)
    return bytes(genuine[4:])


def test_a_bomb_is_refused_within_bounded_memory(codec):
    for bomb in bombs(codec):
        for read in (_read_at_once, _read_until):
            tracemalloc.start()
            try:
                with pytest.raises(CodecError):
                    read(codec, bomb, 2 * MIB)
                assert tracemalloc.get_traced_memory()[1] < 8 * MIB
            finally:
                tracemalloc.stop()


def _read_at_once(codec, stored, limit):
    codec.decompress(stored, max_size=limit)


def _read_until(codec, stored, limit):
    decoder, size = codec.decoder(), 0
    for piece in decoder.decode(stored):
        size += len(piece)
        if size > limit:
            raise CodecError("enough")
    decoder.finish()


@settings(max_examples=300)
@given(data=st.data(), name=st.sampled_from(COMPRESSING), max_size=st.integers(0, 2000))
def test_fuzzed_streams_give_bounded_content_or_a_codec_error(data, name, max_size):
    codec = CODECS[name]
    seed = data.draw(st.sampled_from(sorted(streams(codec).values())))
    stored = bytearray(seed)
    for place, value in data.draw(st.lists(st.tuples(st.integers(0, len(seed) - 1), st.integers(0, 255)), max_size=8)):
        stored[place] = value
    cut = data.draw(st.integers(0, len(stored)))
    fuzzed = bytes(stored[:cut]) + data.draw(st.binary(max_size=20))
    _assert_bounded(codec, fuzzed, max_size)


@given(stored=st.binary(max_size=300), name=st.sampled_from(COMPRESSING), prefix=st.integers(0, 12))
def test_random_bytes_after_a_true_header_give_bounded_content_or_a_codec_error(stored, name, prefix):
    codec = CODECS[name]
    _assert_bounded(codec, codec.compress(b"")[:prefix] + stored, 1000)


def _assert_bounded(codec, stored, max_size):
    with suppress(CodecError):
        assert len(codec.decompress(stored, max_size=max_size)) <= max_size
    with suppress(CodecError):
        decoded(codec, stored, step=7)


def test_an_empty_file_is_no_stream(codec):
    with pytest.raises(CodecError, match="too early"):
        codec.decompress(b"", max_size=10)
    with pytest.raises(CodecError, match="too early"):
        decoded(codec, b"")


def test_an_lz4_block_larger_than_its_header_allows_is_refused():
    codec = CODECS["lz4"]
    size = 256 * KIB + 1
    forged = codec.header() + struct.pack("<I", size | 0x80000000) + bytes(size) + bytes(4)
    with pytest.raises(CodecError, match="larger than its header allows"):
        codec.decompress(forged, max_size=MIB)
    with pytest.raises(CodecError):
        decoded(codec, forged)
