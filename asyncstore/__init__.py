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
    from asyncstore.datastore.context import TaskMetadataCache
    from asyncstore.datastore.flow import FlowDataStore
    from asyncstore.datastore.includes import IncludedFiles, save_included
    from asyncstore.datastore.inputs import Inputs
    from asyncstore.datastore.metaflow_serializers import MetaflowSerializer
    from asyncstore.datastore.plain_serializers import ArrowSerializer, BytesSerializer, JsonSerializer, NumpySerializer
    from asyncstore.datastore.serializers import ArtifactInfo, ArtifactSerializer, Serialized
    from asyncstore.datastore.task import TaskDataStore
    from asyncstore.datastore.task_set import TaskDataStoreSet
    from asyncstore.datastore.trust import TrustPolicy
    from asyncstore.datastore.values import ForeachFrame, IncludedFile, MetaflowExceptionWrapper
    from asyncstore.datastore.writable import WritableTaskDataStore
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
        MergeConflictError,
        MergeError,
        MergeMissingError,
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
        TooLargeError,
        UnpicklableArtifactError,
        UntrustedArtifactError,
    )
    from asyncstore.metadata.base import MetadataProvider, fetch_objects
    from asyncstore.metadata.heartbeat import MetadataHeartBeat
    from asyncstore.metadata.local import LocalMetadataProvider
    from asyncstore.metadata.local_root import find_local_root
    from asyncstore.metadata.objects import TagFilter
    from asyncstore.metadata.records import BeatReply, DataArtifactRecord, MetaDatum, MetaObject
    from asyncstore.metadata.service import ServiceMetadataProvider
    from asyncstore.metadata.service_headers import ConfiguredHeaders, EnvironmentHeaders
    from asyncstore.metadata.sync import sync_local_metadata_from_datastore, sync_local_metadata_to_datastore
    from asyncstore.metadata.system import SystemInfo
    from asyncstore.metadata.wheel import TimerWheel
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
    "ArrowSerializer",
    "ArtifactError",
    "ArtifactInfo",
    "ArtifactSerializer",
    "AsyncStoreError",
    "Attributes",
    "BeatReply",
    "BlobCache",
    "BlobNotFoundError",
    "BlobSource",
    "BlobStatus",
    "Buffer",
    "ByteRange",
    "BytesSerializer",
    "ChunkSource",
    "CodecError",
    "Config",
    "ConfigError",
    "ConfiguredHeaders",
    "ContentAddressedStore",
    "CorruptBlobError",
    "DataArtifactRecord",
    "DataMissingError",
    "DataStoreStorage",
    "Durability",
    "EnvironmentHeaders",
    "FlowDataStore",
    "ForeachFrame",
    "IncludedFile",
    "IncludedFiles",
    "Inputs",
    "IntegrityError",
    "InvalidNameError",
    "InvalidPathspecError",
    "JsonSerializer",
    "Key",
    "Limits",
    "ListEntry",
    "LocalMetadataProvider",
    "MergeConflictError",
    "MergeError",
    "MergeMissingError",
    "MetaDatum",
    "MetaObject",
    "MetadataConflictError",
    "MetadataError",
    "MetadataHeartBeat",
    "MetadataProvider",
    "MetadataUnavailableError",
    "MetaflowExceptionWrapper",
    "MetaflowSerializer",
    "MigrationError",
    "MissingDependencyError",
    "NamespaceMismatchError",
    "NotFoundError",
    "NumpySerializer",
    "ObjectMeta",
    "ObjectNotFoundError",
    "PreconditionFailedError",
    "RetryPolicy",
    "Runtime",
    "SavedBlob",
    "Serialized",
    "ServiceMetadataProvider",
    "SourceChangedError",
    "StorageError",
    "StorageFullError",
    "StorageTimeoutError",
    "StorageUnavailableError",
    "SystemInfo",
    "TagFilter",
    "TaggingError",
    "TaskDataStore",
    "TaskDataStoreSet",
    "TaskMetadataCache",
    "TaskNotFoundError",
    "TaskPath",
    "TaskStateError",
    "Timeouts",
    "TimerWheel",
    "TooLargeError",
    "TrustPolicy",
    "UnpicklableArtifactError",
    "UntrustedArtifactError",
    "WritableTaskDataStore",
    "WriteMode",
    "build_storage",
    "fetch_objects",
    "find_local_root",
    "load_config",
    "open_storage",
    "parse_key",
    "save_included",
    "sync_local_metadata_from_datastore",
    "sync_local_metadata_to_datastore",
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
    "asyncstore.datastore.context": """
        TaskMetadataCache
    """,
    "asyncstore.datastore.flow": """
        FlowDataStore
    """,
    "asyncstore.datastore.includes": """
        IncludedFiles save_included
    """,
    "asyncstore.datastore.inputs": """
        Inputs
    """,
    "asyncstore.datastore.metaflow_serializers": """
        MetaflowSerializer
    """,
    "asyncstore.datastore.plain_serializers": """
        ArrowSerializer BytesSerializer JsonSerializer NumpySerializer
    """,
    "asyncstore.datastore.serializers": """
        ArtifactInfo ArtifactSerializer Serialized
    """,
    "asyncstore.datastore.task": """
        TaskDataStore
    """,
    "asyncstore.datastore.task_set": """
        TaskDataStoreSet
    """,
    "asyncstore.datastore.trust": """
        TrustPolicy
    """,
    "asyncstore.datastore.values": """
        ForeachFrame IncludedFile MetaflowExceptionWrapper
    """,
    "asyncstore.datastore.writable": """
        WritableTaskDataStore
    """,
    "asyncstore.errors": """
        AccessDeniedError AlreadyExistsError ArtifactError AsyncStoreError BlobNotFoundError CodecError
        ConfigError CorruptBlobError DataMissingError IntegrityError InvalidNameError InvalidPathspecError
        MergeConflictError MergeError MergeMissingError
        MetadataConflictError MetadataError MetadataUnavailableError MigrationError MissingDependencyError
        NamespaceMismatchError NotFoundError ObjectNotFoundError PreconditionFailedError SourceChangedError
        StorageError StorageFullError StorageTimeoutError StorageUnavailableError TaggingError TaskNotFoundError
        TaskStateError TooLargeError UnpicklableArtifactError UntrustedArtifactError
    """,
    "asyncstore.metadata.base": """
        MetadataProvider fetch_objects
    """,
    "asyncstore.metadata.heartbeat": """
        MetadataHeartBeat
    """,
    "asyncstore.metadata.local": """
        LocalMetadataProvider
    """,
    "asyncstore.metadata.local_root": """
        find_local_root
    """,
    "asyncstore.metadata.objects": """
        TagFilter
    """,
    "asyncstore.metadata.records": """
        BeatReply DataArtifactRecord MetaDatum MetaObject
    """,
    "asyncstore.metadata.service": """
        ServiceMetadataProvider
    """,
    "asyncstore.metadata.service_headers": """
        ConfiguredHeaders EnvironmentHeaders
    """,
    "asyncstore.metadata.sync": """
        sync_local_metadata_from_datastore sync_local_metadata_to_datastore
    """,
    "asyncstore.metadata.system": """
        SystemInfo
    """,
    "asyncstore.metadata.wheel": """
        TimerWheel
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
