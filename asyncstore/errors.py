"""Every error that asyncstore raises.

    AsyncStoreError                        .operation .where .retryable .retry_after
    ├── NotFoundError (LookupError)
    │   ├── ObjectNotFoundError
    │   ├── BlobNotFoundError              .key                Metaflow: TypeError
    │   ├── TaskNotFoundError                                  Metaflow: DataException, MetaflowNotFound
    │   └── DataMissingError                                   Metaflow: MetaflowDataMissing
    ├── AlreadyExistsError
    ├── PreconditionFailedError
    ├── IntegrityError
    │   ├── CorruptBlobError               .key .actual        Metaflow: not detected
    │   ├── CodecError                                         Metaflow: DataException
    │   │   └── TooLargeError                                  Metaflow: loads any size
    │   └── SourceChangedError                                 Metaflow: not detected
    ├── StorageError
    │   ├── StorageUnavailableError                            Metaflow: MetaflowS3Exception
    │   ├── StorageTimeoutError (TimeoutError)
    │   ├── StorageFullError                                   Metaflow: MetaflowS3InsufficientDiskSpace
    │   ├── AccessDeniedError                                  Metaflow: MetaflowS3AccessDenied
    │   └── MissingDependencyError (ImportError)  .package     Metaflow: Metaflow…PackageError
    ├── MetadataError
    │   ├── MetadataUnavailableError
    │   ├── MetadataConflictError
    │   └── TaggingError                                       Metaflow: MetaflowTaggingError
    ├── TaskStateError                                         Metaflow: MetaflowInternalError
    ├── ArtifactError                      .name               Metaflow: DataException
    │   ├── UnpicklableArtifactError                           Metaflow: UnpicklableArtifactException
    │   └── UntrustedArtifactError                             Metaflow: loads anything
    ├── MergeError                         .artifact_names
    │   ├── MergeConflictError                                 Metaflow: UnhandledInMergeArtifactsException
    │   └── MergeMissingError                                  Metaflow: MissingInMergeArtifactsException
    ├── MigrationError                     .failed
    ├── NamespaceMismatchError                                 Metaflow: MetaflowNamespaceMismatch
    ├── InvalidPathspecError (ValueError)                      Metaflow: MetaflowInvalidPathspec
    ├── InvalidNameError (ValueError)
    └── ConfigError (ValueError)

A branch is what a handler does next: look elsewhere, give up, try later, repair, fix the call. A message says
what failed, where, and what to do now; it never shows a credential.
"""

from __future__ import annotations

from typing import Any, ClassVar


class _ForeignCauseError(Exception):
    """Stands for a cause that stayed in another process: its class and text."""


def _portable(cause: BaseException | None) -> BaseException | None:
    # Exceptions of other packages often cannot be pickled, or not restored where the package is missing.
    if cause is None or isinstance(cause, AsyncStoreError | _ForeignCauseError):
        return cause
    return _ForeignCauseError(f"{type(cause).__module__}.{type(cause).__qualname__}: {cause}")


def _restore(
    cls: type[AsyncStoreError], args: tuple[Any, ...], state: dict[str, Any], cause: BaseException | None
) -> AsyncStoreError:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    error.__cause__ = cause
    return error


class AsyncStoreError(Exception):
    """Root of all errors raised by asyncstore.

    ``operation`` is the verb that failed ("put", "load_blob"), ``where`` the path, key or URL it failed on.
    ``retryable`` says that the same call may succeed later; ``retry_after`` is the server's own wish in seconds.
    Pickles with all fields and notes; a foreign cause is pickled as its text.
    """

    default_retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        operation: str | None = None,
        where: str | None = None,
        retryable: bool | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.operation = operation
        self.where = where
        self.retryable = self.default_retryable if retryable is None else retryable
        self.retry_after = retry_after

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""

    def __reduce__(self) -> tuple[Any, ...]:
        # The default calls cls(*args), which loses keyword-only fields and fails for those that are required.
        return _restore, (type(self), self.args, dict(self.__dict__), _portable(self.__cause__))


class NotFoundError(AsyncStoreError, LookupError):
    """Something that was asked for by name is not there."""


class ObjectNotFoundError(NotFoundError):
    """No object at this path."""


class BlobNotFoundError(NotFoundError):
    """No blob with this key in the content-addressed store."""

    def __init__(self, message: str, *, key: str, **context: Any) -> None:
        super().__init__(message, **context)
        self.key = key


class TaskNotFoundError(NotFoundError):
    """No such flow, run, step, task or finished attempt."""


class DataMissingError(NotFoundError):
    """A task lacks inputs or artifacts that it needs."""


class AlreadyExistsError(AsyncStoreError):
    """A write with ``mode="create"`` found an object in place."""


class PreconditionFailedError(AsyncStoreError):
    """The object is no longer the one that ``if_match`` named."""


class IntegrityError(AsyncStoreError):
    """Bytes are not what they should be."""


class CorruptBlobError(IntegrityError):
    """The content of a blob does not hash to its key.

    ``actual`` is the SHA-1 of what was found, or None if it could not be decoded at all.
    """

    def __init__(self, message: str, *, key: str, actual: str | None, **context: Any) -> None:
        super().__init__(message, **context)
        self.key = key
        self.actual = actual


class CodecError(IntegrityError):
    """Stored bytes cannot be decoded in the form that their attributes name."""


class TooLargeError(CodecError):
    """A stored stream holds more content than ``Limits.max_blob_bytes`` allows; it need not be damaged."""


class SourceChangedError(IntegrityError):
    """A source changed between the pass that hashed it and the pass that stored it; nothing was published."""


class StorageError(AsyncStoreError):
    """The storage refused or failed an operation."""


class StorageUnavailableError(StorageError):
    """The storage cannot be reached or is overloaded; trying later may help."""

    default_retryable = True


class StorageTimeoutError(StorageError, TimeoutError):
    """The storage did not answer within the deadline."""

    default_retryable = True


class StorageFullError(StorageError):
    """No space or quota left."""


class AccessDeniedError(StorageError):
    """The credentials or file permissions do not allow the operation."""


class MissingDependencyError(StorageError, ImportError):
    """An optional package is not installed; the message has the command that installs it."""

    def __init__(self, message: str, *, package: str, **context: Any) -> None:
        super().__init__(message, **context)
        self.package = package


class MetadataError(AsyncStoreError):
    """A metadata provider refused or failed an operation."""


class MetadataUnavailableError(MetadataError):
    """The metadata service cannot be reached or is overloaded; trying later may help."""

    default_retryable = True


class MetadataConflictError(MetadataError):
    """The metadata service holds something else under this name."""


class TaggingError(MetadataError):
    """A tag breaks the rules, or the tags could not be changed."""


class TaskStateError(AsyncStoreError):
    """The operation is not allowed in this state of the task."""


class ArtifactError(AsyncStoreError):
    """An artifact cannot be saved or loaded."""

    def __init__(self, message: str, *, name: str, **context: Any) -> None:
        super().__init__(message, **context)
        self.name = name


class UnpicklableArtifactError(ArtifactError):
    """An artifact cannot be pickled."""


class UntrustedArtifactError(ArtifactError):
    """A pickle refers to a global that the trust policy does not admit; nothing of it ran."""


class MergeError(AsyncStoreError):
    """The artifacts of the inputs of a join cannot be merged; ``artifact_names`` are those in the way."""

    def __init__(self, message: str, *, artifact_names: tuple[str, ...], **context: Any) -> None:
        super().__init__(message, **context)
        self.artifact_names = artifact_names


class MergeConflictError(MergeError):
    """Inputs have different values for the same artifacts."""


class MergeMissingError(MergeError):
    """No input has an artifact that was to be merged."""


class MigrationError(AsyncStoreError):
    """A migration ended with failures; ``failed`` names them."""

    def __init__(self, message: str, *, failed: tuple[str, ...], **context: Any) -> None:
        super().__init__(message, **context)
        self.failed = failed


class NamespaceMismatchError(AsyncStoreError):
    """The object exists outside the current namespace."""


class InvalidPathspecError(AsyncStoreError, ValueError):
    """A pathspec has the wrong number of pieces or an illegal one."""


class InvalidNameError(AsyncStoreError, ValueError):
    """A key or an object path breaks the naming rules."""


class ConfigError(AsyncStoreError, ValueError):
    """An option, URL or configuration file is wrong."""
