import copy
import inspect
import pickle
from typing import Any

import pytest

from asyncstore import errors
from asyncstore.errors import AsyncStoreError

TREE = {
    "AsyncStoreError": ("Exception",),
    "NotFoundError": ("AsyncStoreError", "LookupError"),
    "ObjectNotFoundError": ("NotFoundError",),
    "BlobNotFoundError": ("NotFoundError",),
    "TaskNotFoundError": ("NotFoundError",),
    "DataMissingError": ("NotFoundError",),
    "AlreadyExistsError": ("AsyncStoreError",),
    "PreconditionFailedError": ("AsyncStoreError",),
    "IntegrityError": ("AsyncStoreError",),
    "CorruptBlobError": ("IntegrityError",),
    "CodecError": ("IntegrityError",),
    "TooLargeError": ("CodecError",),
    "SourceChangedError": ("IntegrityError",),
    "StorageError": ("AsyncStoreError",),
    "StorageUnavailableError": ("StorageError",),
    "StorageTimeoutError": ("StorageError", "TimeoutError"),
    "StorageFullError": ("StorageError",),
    "AccessDeniedError": ("StorageError",),
    "MissingDependencyError": ("StorageError", "ImportError"),
    "MetadataError": ("AsyncStoreError",),
    "MetadataUnavailableError": ("MetadataError",),
    "MetadataConflictError": ("MetadataError",),
    "TaggingError": ("MetadataError",),
    "TaskStateError": ("AsyncStoreError",),
    "ArtifactError": ("AsyncStoreError",),
    "UnpicklableArtifactError": ("ArtifactError",),
    "UntrustedArtifactError": ("ArtifactError",),
    "MergeError": ("AsyncStoreError",),
    "MergeConflictError": ("MergeError",),
    "MergeMissingError": ("MergeError",),
    "MigrationError": ("AsyncStoreError",),
    "NamespaceMismatchError": ("AsyncStoreError",),
    "InvalidPathspecError": ("AsyncStoreError", "ValueError"),
    "InvalidNameError": ("AsyncStoreError", "ValueError"),
    "ConfigError": ("AsyncStoreError", "ValueError"),
}
FIELDS: dict[str, Any] = {
    "key": "k" * 40,
    "actual": None,
    "package": "lz4",
    "name": "x",
    "failed": ("a", "b"),
    "artifact_names": ("x",),
}
RETRYABLE = {"StorageUnavailableError", "StorageTimeoutError", "MetadataUnavailableError"}
CLASSES = [
    value
    for value in vars(errors).values()
    if inspect.isclass(value) and issubclass(value, AsyncStoreError) and value.__module__ == errors.__name__
]


def make(cls: type[AsyncStoreError]) -> AsyncStoreError:
    own = {
        name: FIELDS[name]
        for name in inspect.signature(cls.__init__).parameters
        if name not in {"self", "message", "operation", "where", "retryable", "retry_after", "context"}
    }
    return cls("it failed", operation="put", where="a/b", retry_after=2.5, **own)


def test_the_tree_is_the_one_that_is_drawn() -> None:
    assert {cls.__name__: tuple(base.__name__ for base in cls.__bases__) for cls in CLASSES} == TREE
    for name in TREE:
        assert name in (errors.__doc__ or "")


@pytest.mark.parametrize("cls", CLASSES)
def test_only_outages_are_worth_another_try_by_default(cls: type[AsyncStoreError]) -> None:
    assert make(cls).retryable is (cls.__name__ in RETRYABLE)
    assert cls.__init__ is not AsyncStoreError.__init__ or cls("x", retryable=True).retryable


@pytest.mark.parametrize("twice", [pickle.loads, None])
@pytest.mark.parametrize("cls", CLASSES)
def test_an_error_round_trips_with_fields_notes_and_cause(cls: type[AsyncStoreError], twice: Any) -> None:
    error = make(cls)
    error.add_note("while saving")
    error.__cause__ = RuntimeError("disk on fire", lambda: None)  # cannot be pickled
    restored = pickle.loads(pickle.dumps(error)) if twice else copy.copy(error)
    assert type(restored) is cls
    assert str(restored) == str(error) == "it failed"
    assert vars(restored) == vars(error)
    assert restored.args == error.args
    assert restored.__notes__ == ["while saving"]
    assert "RuntimeError" in str(restored.__cause__)
    assert "disk on fire" in str(restored.__cause__)
    assert str(pickle.loads(pickle.dumps(restored)).__cause__) == str(restored.__cause__)


def test_a_cause_of_our_own_stays_itself_and_keeps_its_own_cause() -> None:
    outer, inner = errors.StorageError("outer"), errors.CodecError("inner", where="x")
    outer.__cause__, inner.__cause__ = inner, ValueError("deep")
    restored = pickle.loads(pickle.dumps(outer))
    assert type(restored.__cause__) is errors.CodecError
    assert restored.__cause__.where == "x"
    assert "deep" in str(restored.__cause__.__cause__)


def test_an_error_without_cause_has_none_after_the_round_trip() -> None:
    assert pickle.loads(pickle.dumps(errors.StorageError("x"))).__cause__ is None
