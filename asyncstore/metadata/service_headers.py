"""Headers that a metadata service wants with each request, and keeping their values out of sight.

A provider carries a source of headers, never their values, so that it can be pickled without a credential.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol
from urllib.parse import unquote

from asyncstore.config import load_config
from asyncstore.errors import ConfigError

_HIDDEN = "***"
_SHORTEST_SECRET = 4


class HeaderSource(Protocol):
    """Gives the headers when a connection is opened; called in a thread, so it may read files."""

    def __call__(self) -> Mapping[str, str]: ...


@dataclass(frozen=True, slots=True)
class ConfiguredHeaders:
    """``METAFLOW_SERVICE_HEADERS`` and ``METAFLOW_SERVICE_AUTH_KEY``, wherever `load_config` finds them."""

    def __call__(self) -> Mapping[str, str]:
        """Read environment and files."""
        return load_config().service_headers


@dataclass(frozen=True, slots=True)
class EnvironmentHeaders:
    """Headers whose values stand in variables: pairs of a header's and a variable's name."""

    names: tuple[tuple[str, str], ...]

    def __call__(self) -> Mapping[str, str]:
        """Read the environment; a variable that is not set raises `ConfigError`."""
        missing = [variable for _, variable in self.names if variable not in os.environ]
        if missing:
            raise ConfigError(f"a header of the metadata service stands in {missing[0]}, which is not set")
        return {header: os.environ[variable] for header, variable in self.names}


class StaticHeaders:
    """Headers given as values. They stay in this process: pickling raises `ConfigError`."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._headers = dict(headers)

    def __repr__(self) -> str:
        return f"StaticHeaders({', '.join(f'{name}={_HIDDEN}' for name in self._headers)})"

    def __call__(self) -> Mapping[str, str]:
        """Return them."""
        return self._headers

    def __reduce__(self) -> NoReturn:
        raise ConfigError(
            "headers given as values are not pickled, since they may hold credentials; "
            "use ConfiguredHeaders() or EnvironmentHeaders((('x-api-key', 'VARIABLE'),))"
        )


def check_headers(headers: Mapping[str, Any]) -> dict[str, str]:
    """Return headers that can be sent, or raise `ConfigError` that names one but not its value."""
    for name, value in headers.items():
        if not isinstance(value, str):
            raise ConfigError(f"header {name!r} of the metadata service is not text but {type(value).__name__}")
        sendable = name.isascii() and name and not any(mark in name + value for mark in "\r\n\0")
        try:
            value.encode()
        except UnicodeEncodeError:  # as a variable may hold it; the error has the value
            sendable = False
        if not sendable:
            raise ConfigError(
                f"header {name!r} of the metadata service cannot be sent: a line break, NUL or invalid Unicode is in it"
            )
    return dict(headers)


def secrets_in(values: Iterable[str]) -> frozenset[str]:
    """Return what must not be shown of headers: each value, and its parts, such as the token after ``Bearer``."""
    whole = list(values)
    return frozenset(whole).union(*(value.split() for value in whole)) - {"Basic", "Bearer"}


def secrets_of_proxy(proxy: str | None) -> list[str]:
    """Return user and password in a proxy's URL, as they are written there and as they are meant."""
    userinfo, _, _ = (proxy or "").partition("://")[2].partition("/")[0].rpartition("@")
    parts = userinfo.split(":", 1)
    return [*parts, *map(unquote, parts)]


def redact(text: str, secrets: Iterable[str]) -> str:
    """Return ``text`` without the values of headers, should a gateway have echoed them."""
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= _SHORTEST_SECRET:
            text = text.replace(secret, _HIDDEN)
    return text
