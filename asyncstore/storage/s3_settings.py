"""Where an S3 storage is and how it talks to its server: plain values that pickle and hold no secret."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias
from urllib.parse import urlsplit

from asyncstore.errors import ConfigError

Checksum: TypeAlias = Literal["crc32", "md5", "none"]


@dataclass(frozen=True, slots=True)
class S3Settings:
    """Options of the S3 backend.

    Credentials come from the SDK's own chain: environment, shared files (with ``profile``, which may name a role,
    a process or a single sign-on), containers, instances. None leaves an option to that chain and to the AWS
    configuration file. ``verify`` is a file of CA certificates, or False for none.

    ``addressing`` "auto" puts the bucket into the path where ``endpoint_url`` is set, and leaves it to the SDK
    otherwise. ``checksum`` "auto" sends a CRC-32 to AWS and a Content-MD5 elsewhere; with
    "none" only TLS protects bodies. Without
    ``conditional_writes``, for servers that ignore ``If-None-Match``, a create asks by HEAD first and is not atomic.
    """

    endpoint_url: str | None = None
    region: str | None = None
    profile: str | None = None
    credentials_file: str | None = None
    verify: str | bool | None = None
    addressing: Literal["auto", "path", "virtual"] = "auto"
    checksum: Literal["auto", "crc32", "md5", "none"] = "auto"
    conditional_writes: bool = True
    server_side_encryption: str | None = None
    kms_key_id: str | None = None

    def __post_init__(self) -> None:
        if self.endpoint_url is not None:
            _check_endpoint(self.endpoint_url)
        _check_choice("addressing", self.addressing, ("auto", "path", "virtual"))
        _check_choice("checksum", self.checksum, ("auto", "crc32", "md5", "none"))
        if self.kms_key_id and not (self.server_side_encryption or "").startswith("aws:kms"):
            raise ConfigError("kms_key_id needs server_side_encryption='aws:kms': set it, or leave out the key")

    @property
    def effective_checksum(self) -> Checksum:
        """The checksum that goes with each body; "auto" is decided here."""
        if self.checksum != "auto":
            return self.checksum
        return "crc32" if self.endpoint_url is None or is_aws(self.endpoint_url) else "md5"


def is_aws(endpoint_url: str) -> bool:
    """Say whether an endpoint is one of AWS's own (in any partition)."""
    host = urlsplit(endpoint_url).hostname or ""
    return host.endswith((".amazonaws.com", ".amazonaws.com.cn", ".api.aws"))


def _check_endpoint(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ConfigError("endpoint_url must be http://host[:port] or https://host[:port]")
    if parts.username is not None or parts.query:
        # Not shown: what stands there is a secret more often than not.
        raise ConfigError(
            "endpoint_url must not hold a user, a password or a query: use the environment or a profile instead"
        )


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ConfigError(f"{name} must be one of {', '.join(choices)}, not {value!r}")
