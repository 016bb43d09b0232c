"""Decides whether compression pays: content that does not shrink is stored raw, which Metaflow reads too, and which
loads without decoding, straight into place.

Samples lie all over the content, so that their total estimates what the whole would save. A mixture is compressed as
soon as its compressible parts pay for the whole; the codecs store the pieces of it that do not shrink as they are.
"""

from __future__ import annotations

from collections.abc import Sequence

from asyncstore.codec.base import Codec
from asyncstore.codec.registry import RAW
from asyncstore.types import KIB, Buffer

MIN_BYTES = 100
"""Smaller content is stored raw without a try: of pickled scalars, strings, short lists and dicts below this size only
runs of one character shrink, the others grow by up to 25 bytes, and a try costs 5-10 us."""

WHOLE_BYTES = 128 * KIB
"""Content up to this size is compressed whole to see whether that pays; the result is kept if so. Four samples of it
would cost as much."""

SAMPLE_BYTES = 16 * KIB
"""One sample: 35 us with isal. Smaller ones misjudge, since each pays 1 % for its own Huffman tables: 4 KiB of normally
distributed doubles shrink by 3.1 %, 16 KiB by 4.1 %, as the whole does."""

_SPACING = 256 * KIB  # one sample for each of these costs 10 % of compressing the content
_MIN_SAMPLES = 4  # each part of a quarter is seen
_MAX_SAMPLES = 16
_GOLDEN = 0.6180339887498949  # its multiples modulo 1 fall into step with no period of the content

# Random bytes, JPEG, video and zstd save 0 % or less; doubles and floats of full precision 4-11 % with gzip and
# nothing with LZ4. A gain below 1/32 is noise of the samples and costs more in decoding than it saves in transfer.
_MIN_GAIN = 32


def pays(content: int, stored: int) -> bool:
    """Say whether ``stored`` bytes instead of ``content`` bytes are worth decoding."""
    return content - stored >= max(1, content // _MIN_GAIN)


def encode(data: Buffer, codec: Codec) -> tuple[Codec, Buffer]:
    """Return the stored form of content in memory, and the codec it is in: ``codec``, or raw if that does not pay."""
    size = len(data)
    if size < MIN_BYTES or codec.name == RAW.name or (size > WHOLE_BYTES and not shrinks(samples_of(data), codec)):
        return RAW, data
    stored = codec.compress(data)
    return (codec, stored) if pays(size, len(stored)) else (RAW, data)


def shrinks(samples: Sequence[Buffer], codec: Codec) -> bool:
    """Say whether content with these samples is worth compressing with ``codec``."""
    content = sum(len(sample) for sample in samples)
    # A sample that grows counts with its own size, since a piece that grows is stored as it is.
    stored = sum(min(len(sample), len(codec.piece(sample))) for sample in samples)
    return pays(content, stored)


def samples_of(data: Buffer) -> list[memoryview]:
    """Return samples spread over content in memory: views of ``data``."""
    view = memoryview(data)
    count = min(_MAX_SAMPLES, max(_MIN_SAMPLES, len(view) // _SPACING))
    width = len(view) // count
    return [_sample(view[at * width : (at + 1) * width], at) for at in range(count)]


def _sample(segment: memoryview, number: int) -> memoryview:
    start = int(max(0, len(segment) - SAMPLE_BYTES) * (_GOLDEN * (number + 1) % 1))
    return segment[start : start + SAMPLE_BYTES]


class Sampler:
    """Takes samples of content that passes by in pieces, however long it is, in at most 512 KiB of memory."""

    def __init__(self) -> None:
        self.samples: list[bytes] = []
        self._seen = 0
        self._stride = 1

    def feed(self, piece: Buffer) -> None:
        """Look at the next piece: of 512 KiB, except the last."""
        if self._seen % self._stride == 0:
            self.samples.append(bytes(_sample(memoryview(piece), self._seen)))
            if len(self.samples) == 2 * _MAX_SAMPLES:
                self.samples = self.samples[::2]
                self._stride *= 2
        self._seen += 1
