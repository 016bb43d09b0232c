"""Turns content into stored bytes and back, in threads: hashing, packing, checking."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from asyncstore.cas.source import FileSource, MemorySource, Source
from asyncstore.codec.base import Codec
from asyncstore.codec.probe import encode
from asyncstore.codec.registry import RAW, codec_of, declared_size, other_readings
from asyncstore.errors import BlobNotFoundError, CodecError, CorruptBlobError, TooLargeError
from asyncstore.types import Attributes, Buffer, Key, ObjectMeta


def hash_of(data: Buffer) -> Key:
    """Return the key of content in memory. SHA-1 identifies here; crafted collisions are not defended against."""
    return Key(hashlib.sha1(data, usedforsecurity=False).hexdigest())


@dataclass(slots=True)
class Packed:
    """A blob ready to be stored; ``stored`` is None where its key is known to be stored already."""

    key: Key
    content: Buffer
    codec: Codec
    stored: Buffer | None

    @property
    def size(self) -> int:
        return len(self.content)

    @property
    def attributes(self) -> Attributes:
        return self.codec.attributes(self.size)


def pack(content: Buffer, key: Key, codec: Codec) -> Packed:
    """Compress content, or keep it raw where that does not pay."""
    chosen, stored = encode(content, codec)
    return Packed(key, content, chosen, stored)


def pack_small(
    sources: Sequence[Source], codec: Codec, limit: int, is_known: Callable[[Key], bool]
) -> list[Packed | None]:
    """Hash and pack a batch in one thread hop; None stands for each that has more than ``limit`` bytes."""
    packed: list[Packed | None] = []
    for source in sources:
        content = small_content(source, limit)
        if content is None:
            packed.append(None)
            continue
        key = hash_of(content)
        packed.append(Packed(key, content, codec, None) if is_known(key) else pack(content, key, codec))
    return packed


def small_content(source: Source, limit: int) -> Buffer | None:
    """Return the whole content of a source, or None if it is longer than ``limit`` or can only be walked."""
    if isinstance(source, FileSource):
        return source.read_small(limit)
    if isinstance(source, MemorySource) and source.size <= limit:
        # Bytes that others may write to must not change between the hash and the packing.
        return source.view.tobytes() if source.rehash else source.view
    return None


def can_be_whole(meta: ObjectMeta, size: int) -> bool:
    """Say whether an object's size and attributes can be those of a whole blob with ``size`` bytes of content."""
    try:
        codec = codec_of(meta.attributes)
        declared = declared_size(meta.attributes)
    except CodecError:
        return False
    if declared is not None and declared != size:
        return False
    if codec.name == "raw":
        return meta.size == size
    return meta.size >= codec.min_stored_size(size)


def form_to_heal(meta: ObjectMeta | None, size: int, codec: Codec) -> tuple[Codec, Attributes]:
    """Return codec and attributes with which to overwrite a damaged object.

    The form that it claims to have, where that is a possible one: then only the body has to be replaced, and a
    crash in between cannot leave a body under the other form's attributes.
    """
    if meta is not None:
        try:
            present = codec_of(meta.attributes)
            if declared_size(meta.attributes) in {None, size}:
                return present, meta.attributes
        except CodecError:
            pass  # no form of ours: it is replaced by one
    return codec, codec.attributes(size)


def unpack_verified(
    key: Key, stored: Buffer, attributes: Attributes, *, where: str, max_size: int
) -> tuple[bytes, bool]:
    """Return the content of a stored blob whose hash is ``key``, and whether it is in the form that is stated.

    Where the attributes do not fit the bytes (a writer died between the two), the other readings are tried. Raises
    `CorruptBlobError` if none fits, `CodecError` for attributes of a form that is not known here, and `TooLargeError`
    where a reading was given up for its size.
    """
    stated = codec_of(attributes)
    actual: Key | None = None
    failure: CodecError | None = None
    for codec in (stated, *other_readings(stated, stored)):
        try:
            content = codec.decompress(stored, max_size=max_size)
        except CodecError as error:
            failure = error if isinstance(error, TooLargeError) else failure or error
            continue
        found = hash_of(content)
        if found == key:
            return content, codec is stated
        if codec is stated:
            actual = found
    if isinstance(failure, TooLargeError):
        raise failure
    raise corrupt(key, actual, where) from failure


def unpack_unlabelled(key: Key, stored: Buffer, *, max_size: int) -> bytes | None:
    """Return the content of a stored blob whose attributes were not read, or None if that takes them.

    Content whose hash is its key needs no label: whatever form gives it is the right one.
    """
    for codec in (*other_readings(RAW, stored), RAW):
        try:
            content = codec.decompress(stored, max_size=max_size)
        except CodecError:
            continue
        if hash_of(content) == key:
            return content
    return None


def absent(key: Key, where: str) -> BlobNotFoundError:
    """Return the error for a blob that is not in the store."""
    return BlobNotFoundError(
        f"no blob {key} at {where}; check that this is the store it was saved to",
        key=key,
        operation="load_blob",
        where=where,
    )


def corrupt(key: Key, actual: Key | None, where: str) -> CorruptBlobError:
    """Return the error for a blob that is not what its key says."""
    found = f"its content hashes to {actual}" if actual else "it cannot be decoded"
    return CorruptBlobError(
        f"blob {key} at {where} is damaged: {found}; save the same content again, with verify_existing, to heal it",
        key=key,
        actual=actual,
        operation="load_blob",
        where=where,
    )


def mislabelled(key: Key, where: str) -> CodecError:
    """Return the error for a blob whose content is whole, in another form than its attributes state."""
    return CodecError(
        f"blob {key} at {where} is whole, but not in the form that its attributes state (on local disk they are in "
        f"{where}_meta), so Metaflow cannot read it; save the same content again, with verify_existing, to heal it",
        operation="load_blob",
        where=where,
    )
