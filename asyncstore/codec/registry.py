"""Which codec a name asks for, and which one the attributes of a stored blob call for."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from asyncstore.codec import gzip, lz4
from asyncstore.codec.base import Codec
from asyncstore.codec.gzip import GzipCodec
from asyncstore.codec.lz4 import Lz4Codec
from asyncstore.codec.raw import RawCodec
from asyncstore.errors import CodecError, ConfigError
from asyncstore.types import Attributes, Buffer

GZIP: Final[Codec] = GzipCodec()
LZ4: Final[Codec] = Lz4Codec()
RAW: Final[Codec] = RawCodec()

_BY_NAME: Final[Mapping[str, Codec]] = MappingProxyType({codec.name: codec for codec in (GZIP, LZ4, RAW)})
_MAX_SIZE = 2**63 - 1


def codec_named(name: str) -> Codec:
    """Return the codec "gzip", "lz4" or "raw"."""
    try:
        return _BY_NAME[name]
    except KeyError:
        raise ConfigError(f"unknown codec {name!r}; choose one of {', '.join(_BY_NAME)}", where=name) from None


def codec_of(attributes: Attributes | None) -> Codec:
    """Return the codec that a blob's attributes call for, as Metaflow 2.19 decides for its own.

    A blob without attributes comes from an old datastore, which stored gzip. Raises `CodecError` for a form that this
    version does not know.
    """
    if not attributes:
        return GZIP
    if attributes.get("cas_raw", False):
        return RAW
    if "cas_version" not in attributes:
        raise CodecError(f"blob's attributes name no encoding: cas_version is missing in {dict(attributes)}")
    version, form = attributes["cas_version"], attributes.get("cas_codec")
    if version == gzip.VERSION:
        return GZIP
    if version == lz4.VERSION and form == lz4.FORMAT:
        return LZ4
    raise CodecError(
        f"unknown blob encoding cas_version={version!r} cas_codec={form!r}: this asyncstore reads version "
        f"{gzip.VERSION} (gzip) and {lz4.VERSION} ({lz4.FORMAT}); a newer asyncstore or Metaflow may have written it"
    )


def other_readings(codec: Codec, stored: Buffer) -> tuple[Codec, ...]:
    """Return what else the stored bytes may be, likeliest first, when ``codec`` did not give the right content.

    By the first bytes; for a sidecar that a crash left beside another form of the same blob. Whoever reads otherwise
    than the attributes say must check the content against its key.
    """
    candidates = (
        GZIP if bytes(stored[:2]) == GZIP.header()[:2] else None,
        LZ4 if bytes(stored[:4]) == LZ4.header()[:4] else None,
        RAW,
    )
    return tuple(other for other in candidates if other is not None and other.name != codec.name)


def declared_size(attributes: Attributes | None) -> int | None:
    """Return the content's size in bytes that the attributes state, or None if they state none that can be.

    A hint for reservations: Metaflow writes none, and what it says is not proven before the content is decoded.
    """
    size = attributes.get("cas_size") if attributes else None
    return size if type(size) is int and 0 <= size <= _MAX_SIZE else None
