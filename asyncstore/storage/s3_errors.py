"""What the SDK raises, translated once: what a caller can do about it decides the class."""

from __future__ import annotations

from typing import Any, cast

from aiohttp import ClientError as TransportError
from botocore import exceptions as sdk

from asyncstore.errors import (
    AccessDeniedError,
    AlreadyExistsError,
    AsyncStoreError,
    ConfigError,
    IntegrityError,
    ObjectNotFoundError,
    PreconditionFailedError,
    StorageError,
    StorageFullError,
    StorageTimeoutError,
    StorageUnavailableError,
)

SDK_ERRORS = (sdk.BotoCoreError, sdk.ClientError, TransportError, OSError, TimeoutError)
"""All that a call of the SDK or the reading of its body raises, apart from faults of our own."""

_DENIED = {
    "RequestTimeTooSkewed": "the clock of this machine differs from the server's: set it right",
    "SignatureDoesNotMatch": "the secret key is not the one of this access key: correct the credentials",
    "InvalidAccessKeyId": "the server does not know this access key: correct the credentials",
    "ExpiredToken": "the session token has expired: renew the credentials",
    "InvalidToken": "the session token is not valid: renew the credentials",
    "AuthorizationHeaderMalformed": "the request was signed for another region: set the region of the bucket",
}
_OVERLOADED = frozenset({
    "BandwidthLimitExceeded", "InternalError", "InternalFailure", "OperationAborted", "PriorRequestNotComplete",
    "ProvisionedThroughputExceededException", "RequestLimitExceeded", "RequestThrottled", "RequestTimeout",
    "RequestTimeoutException", "ServiceUnavailable", "SlowDown", "Throttling", "ThrottlingException",
    "TooManyRequestsException", "TransactionInProgressException", "ConditionalRequestConflict",
})  # fmt: skip
_DAMAGED = frozenset({"BadDigest", "InvalidDigest", "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch"})
_FULL = frozenset({"QuotaExceeded", "InsufficientStorage", "XMinioStorageFull", "EntityTooLarge"})
_UNAVAILABLE_STATUS = frozenset({408, 409, 429, 500, 502, 503, 504})


def status_of(error: BaseException) -> int:
    """Return the HTTP status of the server's answer, 0 if there was none."""
    if not isinstance(error, sdk.ClientError):
        return 0
    return cast("int", _answer(error).get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def code_of(error: BaseException) -> str:
    """Return S3's word for the error; for an answer without a body that is its status."""
    return str(_answer(error).get("Error", {}).get("Code", "")) if isinstance(error, sdk.ClientError) else ""


def translate(error: Exception, operation: str, path: str, root: str) -> AsyncStoreError:
    """Return our error for one of the SDK's; it names the operation, the path and what to do now."""
    what = f"{operation} of {path or '/'} in {root}"
    context: dict[str, Any] = {"operation": operation, "where": path}
    if isinstance(error, sdk.ClientError):
        return _from_answer(error, what, context)
    if isinstance(error, sdk.ReadTimeoutError | sdk.ConnectTimeoutError | TimeoutError):
        return StorageTimeoutError(
            f"{what}: no answer within the deadline; try again, or raise the timeouts for a slow network", **context
        )
    if isinstance(error, sdk.SSLError):
        return StorageError(
            f"{what}: the TLS connection failed ({_line(error)}); check the certificate, or set verify to its CA file",
            **context,
        )
    if isinstance(error, sdk.NoCredentialsError | sdk.PartialCredentialsError | sdk.CredentialRetrievalError):
        return AccessDeniedError(
            f"{what}: no credentials ({_line(error)}); set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile or"
            " a role",
            **context,
        )
    if isinstance(error, sdk.ProfileNotFound | sdk.ConfigParseError | sdk.ConfigNotFound | sdk.InvalidRegionError):
        return ConfigError(f"{what}: {_line(error)}; correct the option or the AWS configuration file", **context)
    if isinstance(error, sdk.EndpointConnectionError | sdk.ProxyConnectionError):
        return StorageUnavailableError(
            f"{what}: cannot reach the endpoint, or it broke off ({_line(error)}); check endpoint_url and the network",
            **context,
        )
    if isinstance(error, sdk.TokenRetrievalError | sdk.UnauthorizedSSOTokenError | sdk.SSOTokenLoadError):
        return AccessDeniedError(f"{what}: {_line(error)}; log in again", **context)
    return StorageUnavailableError(
        f"{what}: the connection or the answer broke ({type(error).__name__}: {_line(error)}); try again", **context
    )


def _from_answer(error: sdk.ClientError, what: str, context: dict[str, Any]) -> AsyncStoreError:
    code, status = code_of(error), status_of(error)
    said = _answer(error).get("Error", {}).get("Message", "")
    detail = f"{code}: {said}" if said else f"HTTP {status}" if code == str(status) else code
    if code == "NoSuchKey":
        return ObjectNotFoundError(f"{what}: there is no such object", **context)
    if code == "NoSuchUpload":
        return StorageError(f"{what}: the upload was completed or aborted before; begin another one", **context)
    if code == "NoSuchBucket":
        return StorageError(f"{what}: the bucket does not exist; create it, or correct the URL", **context)
    if status == 412:
        return _precondition(what, context)
    if code in _DAMAGED:
        return IntegrityError(
            f"{what}: the body was damaged on its way ({detail}); try again, and if it never works this server takes"
            " another checksum: set checksum to md5, crc32 or none",
            retryable=True,
            **context,
        )
    if code in _FULL or status == 507:
        return StorageFullError(f"{what}: no room for the object ({detail}); free space or raise the quota", **context)
    if code in _OVERLOADED or status in _UNAVAILABLE_STATUS:
        return StorageUnavailableError(
            f"{what}: the server cannot do it now ({detail}); try again later",
            retry_after=_retry_after(error),
            **context,
        )
    if code in _DENIED:
        return AccessDeniedError(f"{what}: {_DENIED[code]} ({code})", **context)
    if status in {401, 403}:
        return AccessDeniedError(
            f"{what}: access denied ({detail}); the credentials lack the permission, or are wrong", **context
        )
    if status == 404:
        return ObjectNotFoundError(f"{what}: there is no such object ({detail})", **context)
    if status in {301, 307, 308} or code in {"PermanentRedirect", "IllegalLocationConstraintException"}:
        return ConfigError(f"{what}: the bucket is in another region ({detail}); set its region", **context)
    return StorageError(f"{what}: the server refused ({detail})", **context)


def _precondition(what: str, context: dict[str, Any]) -> AsyncStoreError:
    if context["operation"] == "get":
        return PreconditionFailedError(
            f"{what}: it is no longer the object that if_match names; read it anew", **context
        )
    return AlreadyExistsError(f"{what}: an object is in place", **context)


def _retry_after(error: sdk.ClientError) -> float | None:
    value: str = _answer(error).get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("retry-after", "")
    # The other form, a date, is not used by S3 servers; without a wish our own delays hold.
    return float(value) if value.isdecimal() else None


def _answer(error: sdk.ClientError) -> dict[str, Any]:
    return cast("dict[str, Any]", error.response)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
