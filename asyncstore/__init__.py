"""Asyncio-native storage engine for the data and metadata of Metaflow-style workflows.

Names are imported at their first use, so that ``import asyncstore`` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from asyncstore.cas.cache import BlobCache
    from asyncstore.cas.result import BlobStatus, SavedBlob
    from asyncstore.cas.store import ContentAddressedStore
    from asyncstore.config import Config, load_config
    from asyncstore.errors import (
        AccessDeniedError,
        AlreadyExistsError,
        ArtifactError,
        AsyncStoreError,
        BlobNotFoundError,
        CodecError,
        ConfigError,
        CorruptBlobError,
        DataMissingError,
        IntegrityError,
        InvalidNameError,
        InvalidPathspecError,
        MetadataConflictError,
        MetadataError,
        MetadataUnavailableError,
        MigrationError,
        MissingDependencyError,
        NamespaceMismatchError,
        NotFoundError,
        ObjectNotFoundError,
        PreconditionFailedError,
        SourceChangedError,
        StorageError,
        StorageFullError,
        StorageTimeoutError,
        StorageUnavailableError,
        TaggingError,
        TaskNotFoundError,
        TaskStateError,
        UnpicklableArtifactError,
        UntrustedArtifactError,
    )
    from asyncstore.runtime import Runtime
    from asyncstore.storage.base import DataStoreStorage
    from asyncstore.storage.registry import build_storage, open_storage
    from asyncstore.types import (
        Attributes,
        BlobSource,
        Buffer,
        ByteRange,
        ChunkSource,
        Durability,
        Key,
        Limits,
        ListEntry,
        ObjectMeta,
        RetryPolicy,
        TaskPath,
        Timeouts,
        WriteMode,
        parse_key,
    )

__all__ = [
    "AccessDeniedError",
    "AlreadyExistsError",
    "ArtifactError",
    "AsyncStoreError",
    "Attributes",
    "BlobCache",
    "BlobNotFoundError",
    "BlobSource",
    "BlobStatus",
    "Buffer",
    "ByteRange",
    "ChunkSource",
    "CodecError",
    "Config",
    "ConfigError",
    "ContentAddressedStore",
    "CorruptBlobError",
    "DataMissingError",
    "DataStoreStorage",
    "Durability",
    "IntegrityError",
    "InvalidNameError",
    "InvalidPathspecError",
    "Key",
    "Limits",
    "ListEntry",
    "MetadataConflictError",
    "MetadataError",
    "MetadataUnavailableError",
    "MigrationError",
    "MissingDependencyError",
    "NamespaceMismatchError",
    "NotFoundError",
    "ObjectMeta",
    "ObjectNotFoundError",
    "PreconditionFailedError",
    "RetryPolicy",
    "Runtime",
    "SavedBlob",
    "SourceChangedError",
    "StorageError",
    "StorageFullError",
    "StorageTimeoutError",
    "StorageUnavailableError",
    "TaggingError",
    "TaskNotFoundError",
    "TaskPath",
    "TaskStateError",
    "Timeouts",
    "UnpicklableArtifactError",
    "UntrustedArtifactError",
    "WriteMode",
    "build_storage",
    "load_config",
    "open_storage",
    "parse_key",
]

# The same names once more by module: type checkers read the imports above, Python reads this at run time.
_NAMES = {
    "asyncstore.cas.cache": """
        BlobCache
    """,
    "asyncstore.cas.result": """
        BlobStatus SavedBlob
    """,
    "asyncstore.cas.store": """
        ContentAddressedStore
    """,
    "asyncstore.config": """
        Config load_config
    """,
    "asyncstore.errors": """
        AccessDeniedError AlreadyExistsError ArtifactError AsyncStoreError BlobNotFoundError CodecError
        ConfigError CorruptBlobError DataMissingError IntegrityError InvalidNameError InvalidPathspecError
        MetadataConflictError MetadataError MetadataUnavailableError MigrationError MissingDependencyError
        NamespaceMismatchError NotFoundError ObjectNotFoundError PreconditionFailedError SourceChangedError
        StorageError StorageFullError StorageTimeoutError StorageUnavailableError TaggingError TaskNotFoundError
        TaskStateError UnpicklableArtifactError UntrustedArtifactError
    """,
    "asyncstore.runtime": """
        Runtime
    """,
    "asyncstore.storage.base": """
        DataStoreStorage
    """,
    "asyncstore.storage.registry": """
        build_storage open_storage
    """,
    "asyncstore.types": """
        Attributes BlobSource Buffer ByteRange ChunkSource Durability Key Limits ListEntry ObjectMeta
        RetryPolicy TaskPath Timeouts WriteMode parse_key
    """,
}


if not TYPE_CHECKING:  # a type checker that saw it would let any misspelt name pass

    def __getattr__(name: str) -> Any:
        for module, names in _NAMES.items():
            if name in names.split():
                value = globals()[name] = getattr(import_module(module), name)
                return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
