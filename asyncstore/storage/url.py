"""URLs of storages: pure parsing. What a message shows of a URL has no credentials in it."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Final, NoReturn
from urllib.parse import unquote, urlsplit

from asyncstore.errors import ConfigError, InvalidNameError
from asyncstore.layout import check_directory

FORMS: Final = "a path, file:///path, s3://bucket/prefix, azure://container/prefix, gs://bucket/prefix or memory://name"
SCHEMES: Final = frozenset({"file", "s3", "azure", "gs", "memory"})

# RFC 3986, section 3.1; two letters at least, so that C:\ is no scheme.
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(//)?")
_BUCKET = re.compile(r"[A-Za-z0-9$][A-Za-z0-9._-]*")


@dataclass(frozen=True, slots=True)
class StorageUrl:
    """A storage's address: ``place`` is an absolute path, a bucket, a container or a name; ``prefix`` lies in it."""

    scheme: str
    place: str
    prefix: str = ""

    def __str__(self) -> str:
        if self.scheme == "file":
            return self.place
        return f"{self.scheme}://{self.place}" + (f"/{self.prefix}" if self.prefix else "")


def parse_url(url: str | os.PathLike[str], *, cwd: str | None = None) -> StorageUrl:
    """Return the parts of a storage's URL; a relative path is taken from ``cwd`` (default: the working directory).

    Raises `ConfigError` for what is no such URL, and for credentials in one: they would end up in logs, pickles and
    recorded locations.
    """
    text = os.fspath(url)
    if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance]  # callers may not be type-checked
        raise ConfigError("a storage URL is text, not bytes")
    if not text or "\0" in text:
        raise ConfigError(f"a storage URL must not be empty or hold NUL; it is {FORMS}")
    match = _SCHEME.match(text)
    if match is None:
        return StorageUrl("file", _absolute(text, cwd))
    scheme = match[1].lower()
    if not match[2]:
        if scheme in SCHEMES:
            _refuse(text, f"'//' is missing after {scheme}:")
        return StorageUrl("file", _absolute(text, cwd))  # a file name with a colon in it
    if scheme not in SCHEMES:
        _refuse(text, f"there is no scheme {scheme!r}")
    if scheme == "memory":
        return StorageUrl(scheme, text[match.end() :].strip("/") or _refuse(text, "it has no name"))
    if scheme == "file":
        return StorageUrl("file", _file_path(text))
    return _bucket_url(text, scheme)


def redact_url(url: str) -> str:
    """Return a URL without user, password, query and fragment, in which credentials travel."""
    match = _SCHEME.match(url)
    if match is None or not match[2]:
        return url
    authority, slash, rest = url[match.end() :].partition("/")
    rest = re.split(r"[?#]", rest, maxsplit=1)[0]
    return f"{match[0]}{re.split(r'[?#]', authority.rpartition('@')[2], maxsplit=1)[0]}{slash}{rest}"


def _bucket_url(text: str, scheme: str) -> StorageUrl:
    if "@" in text.split("://", 1)[1].partition("/")[0]:
        _refuse(text, "it holds credentials; give them by the environment, a profile or a file instead")
    place, _, prefix = text.split("://", 1)[1].partition("/")
    if "?" in text or "#" in text:
        _refuse(text, "it has a query or a fragment; give options as arguments instead")
    if not _BUCKET.fullmatch(place):
        _refuse(text, f"{place!r} is no name of a bucket or container" if place else "it names no bucket or container")
    prefix = prefix.strip("/")
    try:
        check_directory(prefix)
    except InvalidNameError as error:
        _refuse(text, str(error).replace("object path", "prefix"))
    return StorageUrl(scheme, place, prefix)


def _file_path(text: str) -> str:
    parts = urlsplit(text)
    if parts.netloc not in {"", "localhost"}:
        _refuse(text, "a file URL has three slashes and an absolute path")
    if parts.query or parts.fragment:
        _refuse(text, "it has a query or a fragment; write '?' as %3F and '#' as %23")
    path = unquote(parts.path)
    if not path.startswith("/"):
        _refuse(text, "a file URL has three slashes and an absolute path")
    return os.path.normpath(path)


def _absolute(path: str, cwd: str | None) -> str:
    return os.path.normpath(os.path.join(cwd or os.getcwd(), os.path.expanduser(path)))


def _refuse(url: str, reason: str) -> NoReturn:
    shown = redact_url(url)
    raise ConfigError(f"{shown!r} is no storage URL: {reason}; it is {FORMS}", where=shown)
