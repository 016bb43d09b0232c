"""The rules of a multipart upload, the same on every backend: pure checks and their errors."""

from __future__ import annotations

from collections.abc import Mapping

from asyncstore.errors import ConfigError, StorageError
from asyncstore.storage.base import MultipartLimits


def check_part_size(limits: MultipartLimits, part_size: int, path: str) -> None:
    """Raise `ConfigError` if a backend does not take parts of this many bytes."""
    if not limits.min_part <= part_size <= limits.max_part:
        raise ConfigError(
            f"part size {part_size} for {path} is not within {limits.min_part} to {limits.max_part} bytes",
            operation="create_multipart",
            where=path,
        )


def check_part(limits: MultipartLimits, number: int, size: int, part_size: int, path: str) -> None:
    """Raise `ConfigError` for a part's number or size that no upload may have."""
    if not 0 <= number < limits.max_parts:
        raise ConfigError(
            f"part {number} of {path}: numbers go from 0 to {limits.max_parts - 1}", operation="put_part", where=path
        )
    if not 0 < size <= part_size:
        raise ConfigError(
            f"part {number} of {path} has {size} bytes: a part has 1 to {part_size}; write an empty object with put",
            operation="put_part",
            where=path,
        )


def check_complete(sizes: Mapping[int, int], part_size: int, path: str) -> int:
    """Return the bytes of the whole object, given the bytes of each part that arrived.

    Raises `StorageError` if a part is missing, or one before the last is short; the upload stays open then.
    """
    last = max(sizes, default=0)
    for number in range(last + 1):
        size = sizes.get(number)
        if size is None or (number < last and size != part_size):
            fault = "is missing" if size is None else f"has {size} bytes instead of {part_size}"
            raise StorageError(
                f"upload of {path} is not complete: part {number} {fault}; send it and complete again, or abort",
                operation="complete",
                where=path,
            )
    return part_size * last + sizes[last]


def upload_ended(operation: str, path: str) -> StorageError:
    """Return the error of a call on an upload that was completed or aborted before."""
    return StorageError(
        f"{operation}: the upload of {path} has ended; begin another one", operation=operation, where=path
    )
