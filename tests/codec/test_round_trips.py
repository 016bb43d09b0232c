"""What is encoded is decoded to the same content, here and by the libraries that define the formats."""

from __future__ import annotations

import gzip
import pickle
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import lz4.frame
import pytest
from hypothesis import given
from hypothesis import strategies as st
from isal import isal_zlib

from asyncstore.types import KIB, MIB
from tests.codec.contents import CODECS, COMPRESSING, decoded, foreign_streams, mixture, noise, stream, text

SIZES = [0, 1, 2, 100, 65535, 65536, 512 * KIB - 1, 512 * KIB, 512 * KIB + 1, 1700 * KIB]
CONTENTS: dict[str, Callable[[int], bytes]] = {"text": text, "noise": noise, "mixture": mixture, "zeros": bytes}


@pytest.fixture(params=CODECS)
def codec(request):
    return CODECS[request.param]


@pytest.mark.parametrize("kind", CONTENTS)
@pytest.mark.parametrize("size", SIZES)
def test_content_of_any_size_and_kind_comes_back(codec, size, kind):
    content = CONTENTS[kind](size)
    stored = codec.compress(content)
    assert codec.decompress(stored, max_size=size) == content
    assert decoded(codec, stored) == content
    assert decoded(codec, stored, step=70_001) == content
    assert codec.min_stored_size(size) <= len(stored) <= codec.max_stored_size(size)


@given(content=st.binary(max_size=2000), step=st.integers(1, 300), name=st.sampled_from(sorted(CODECS)))
def test_any_content_comes_back_from_a_stream_cut_anywhere(content, step, name):
    codec = CODECS[name]
    assert decoded(codec, stream(codec, content), step=step) == content
    assert codec.decompress(stream(codec, content), max_size=len(content)) == content


@pytest.mark.parametrize("size", SIZES)
def test_a_stream_of_pieces_is_what_compress_returns(codec, size):
    content = mixture(size)
    assert stream(codec, content) == codec.compress(content)
    assert stream(codec, content) == codec.compress(memoryview(bytearray(content)))


def test_pieces_made_by_many_threads_at_once_are_those_made_in_turn(codec):
    content = mixture(6 * MIB)
    size = codec.piece_size
    parts = [memoryview(content)[at : at + size] for at in range(0, len(content), size)] * 4
    with ThreadPoolExecutor(8) as pool:
        pieces = list(pool.map(codec.piece, parts))
    assert pieces == [codec.piece(part) for part in parts]


def test_decoders_in_many_threads_do_not_disturb_each_other(codec):
    contents = [mixture(900_000 + seed) for seed in range(16)]
    streams = [codec.compress(content) for content in contents]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda stored: decoded(codec, stored, step=100_000), streams)) == contents


@pytest.mark.parametrize("size", SIZES)
def test_the_standard_library_reads_our_gzip(size):
    for name in ("gzip", "gzip without isal"):
        stored = CODECS[name].compress(mixture(size))
        assert gzip.decompress(stored) == mixture(size)
        member = zlib.decompressobj(31)
        member.decompress(stored)
        assert member.eof
        assert member.unused_data == b"", "one member only"
        assert stored[4:8] == bytes(4), "no time in the header: the same content gives the same bytes"


@pytest.mark.parametrize("size", SIZES)
def test_the_lz4_library_reads_our_frames(size):
    stored = CODECS["lz4"].compress(mixture(size))
    assert lz4.frame.decompress(stored) == mixture(size)
    info = lz4.frame.get_frame_info(stored)
    assert info["block_size"] == 256 * KIB
    assert not info["block_linked"]
    assert not info["content_checksum"]
    assert not info["block_checksum"]


@pytest.mark.parametrize("size", [0, 1, 5000, 3 * MIB])
@pytest.mark.parametrize("name", COMPRESSING)
def test_streams_of_other_writers_are_read(name, size):
    codec, content = CODECS[name], mixture(size)
    for writer, stored in foreign_streams(codec, content).items():
        assert codec.decompress(stored, max_size=size) == content, writer
        assert decoded(codec, stored) == content, writer
        assert decoded(codec, stored, step=4093) == content, writer
        assert len(stored) >= codec.min_stored_size(size), writer


@given(content=st.binary(max_size=600), step=st.integers(1, 60), name=st.sampled_from(COMPRESSING))
def test_streams_of_other_writers_are_read_however_they_are_cut(content, step, name):
    for writer, stored in foreign_streams(CODECS[name], content).items():
        assert decoded(CODECS[name], stored, step=step) == content, writer


def test_ten_thousand_gzip_members_are_read():
    stored = b"".join(gzip.compress(b"%d" % number, 1) for number in range(10_000))
    content = b"".join(b"%d" % number for number in range(10_000))
    for name in ("gzip", "gzip without isal"):
        assert CODECS[name].decompress(stored, max_size=len(content)) == content
        assert decoded(CODECS[name], stored) == content


@given(content=st.binary(max_size=4000) | st.binary(min_size=1, max_size=3).map(lambda unit: unit * 3000))
def test_no_stream_leaves_the_stated_bounds(content):
    for name, codec in CODECS.items():
        stored = codec.compress(content)
        assert codec.min_stored_size(len(content)) <= len(stored) <= codec.max_stored_size(len(content)), name


def test_the_densest_streams_of_other_writers_are_above_the_stated_minimum():
    content = bytes(8 * MIB)
    assert CODECS["gzip"].min_stored_size(len(content)) <= len(gzip.compress(content, 9)) < len(content) // 1000
    assert CODECS["lz4"].min_stored_size(len(content)) <= len(lz4.frame.compress(content, 16)) < len(content) // 200


def test_attributes_are_those_of_the_stored_format():
    assert CODECS["gzip"].attributes(7) == {"cas_raw": False, "cas_version": 1, "cas_size": 7}
    assert CODECS["raw"].attributes(7) == {"cas_raw": True, "cas_version": 1, "cas_size": 7}
    assert CODECS["lz4"].attributes(7) == {
        "cas_raw": False,
        "cas_version": 1001,
        "cas_codec": "lz4-frame",
        "cas_size": 7,
    }


@pytest.mark.parametrize("name", ["gzip", "gzip without isal"])
@pytest.mark.parametrize("kind", CONTENTS)
def test_every_piece_of_gzip_ends_on_a_byte_with_an_empty_block_and_is_decoded_alone(name, kind):
    for size in (1, 1000, 512 * KIB):
        content = CONTENTS[kind](size)
        piece = CODECS[name].piece(content)
        assert piece.endswith(b"\x00\x00\xff\xff")
        assert zlib.decompressobj(-15).decompress(piece) == content


def test_content_that_does_not_shrink_grows_by_less_than_a_five_thousandth():
    content = noise(3 * MIB)
    for name, codec in CODECS.items():
        assert len(codec.compress(content)) <= len(content) + len(content) // 5000, name


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("gzip", lambda: isal_zlib.decompressobj(31)),
        ("gzip without isal", lambda: zlib.decompressobj(31)),
        ("lz4", lz4.frame.LZ4FrameDecompressor),
    ],
)
def test_a_decoder_keeps_no_content_back_when_a_piece_is_full(name, reference):
    content = bytes(600 * KIB)
    stored = CODECS[name].compress(content)
    for size in range(len(stored)):
        given_by_decoder = sum(len(piece) for piece in CODECS[name].decoder().decode(stored[:size]))
        assert given_by_decoder >= len(reference().decompress(stored[:size])), size


def test_pieces_of_a_decoder_are_bounded(codec):
    decoder = codec.decoder()
    pieces = list(decoder.decode(codec.compress(bytes(20 * MIB))))
    assert sum(len(piece) for piece in pieces) == 20 * MIB
    assert max(len(piece) for piece in pieces) <= MIB
    assert all(len(piece) for piece in pieces)


def test_codecs_travel_by_pickle(codec):
    other = pickle.loads(pickle.dumps(codec))
    assert type(other) is type(codec)
    assert other.decompress(codec.compress(b"x" * 1000), max_size=1000) == b"x" * 1000


def test_all_of_a_large_lz4_block_is_given_before_the_end_mark_comes():
    content = bytes(600 * KIB)
    stored = lz4.frame.compress(content, block_size=lz4.frame.BLOCKSIZE_MAX4MB)
    assert b"".join(bytes(piece) for piece in CODECS["lz4"].decoder().decode(stored[:-4])) == content
