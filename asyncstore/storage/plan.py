"""How a large object is cut into parts, and how many of them are under way at once: pure."""

from __future__ import annotations

from dataclasses import dataclass

from asyncstore.errors import StorageError
from asyncstore.storage.base import MultipartLimits
from asyncstore.types import KIB, MIB, ByteRange

PART = 6 * MIB
"""Preferred bytes of a part that waits in memory. A request costs a cloud 20-50 ms before its first byte and one
connection moves about 100 MB/s, so that smaller parts mostly wait; S3 takes no less than 5 MiB."""

WIDTH = 4
"""Parts in flight that wait in memory: with `PART`, 24 MiB for a transfer of any size."""

DIRECT_PART = 8 * MIB
"""Preferred bytes of a part that is sent from, or received into, memory of the caller's."""

DIRECT_WIDTH = 8
"""Such parts in flight; they cost no memory of ours."""

_SMALLEST = 64 * KIB


@dataclass(frozen=True, slots=True)
class Plan:
    """Parts of ``part_size`` bytes each (the last may be shorter), ``width`` of them in flight."""

    part_size: int
    width: int

    @property
    def window(self) -> int:
        """Bytes of all parts in flight."""
        return self.part_size * self.width

    def count(self, size: int) -> int:
        """Return the number of parts of ``size`` bytes; nothing is one empty part."""
        return max(1, -(-size // self.part_size))

    def part(self, number: int, size: int) -> ByteRange:
        """Return the range of one part of ``size`` bytes."""
        start = number * self.part_size
        return ByteRange(start, min(start + self.part_size, size))


def plan_parts(limits: MultipartLimits, max_size: int, *, preferred: int = PART) -> int:
    """Return the part size, in bytes, of an upload of at most ``max_size`` bytes.

    As near to ``preferred`` as the limits allow; larger, in whole MiB where possible, if there would be too many.
    """
    least = -(-max_size // limits.max_parts)
    if least > limits.max_part:
        raise StorageError(
            f"an object of {max_size} bytes is too large for this storage, which takes {limits.max_parts} parts of "
            f"{limits.max_part} bytes; split the content",
            operation="put",
        )
    if least > preferred:
        preferred = -(-least // MIB) * MIB
    return max(limits.min_part, min(preferred, limits.max_part))


def plan_upload(limits: MultipartLimits, max_size: int, *, memory: int) -> Plan:
    """Plan an upload of at most ``max_size`` bytes whose parts wait in memory, of which there are ``memory`` bytes."""
    part_size = plan_parts(limits, max_size, preferred=_share(memory))
    if max_size <= part_size:
        return Plan(max(1, max_size), 1)
    return Plan(part_size, min(_width(part_size, memory), -(-max_size // part_size)))


def plan_download(*, memory: int) -> Plan:
    """Plan a download of any size through memory, of which there are ``memory`` bytes."""
    part_size = _share(memory)
    return Plan(part_size, _width(part_size, memory))


def _share(memory: int) -> int:
    return max(_SMALLEST, min(PART, memory // WIDTH))


def _width(part_size: int, memory: int) -> int:
    return max(1, min(WIDTH, memory // part_size))
