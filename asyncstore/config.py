"""Every option in one table, with the names under which the environment and Metaflow's files may set it.

An argument goes before ``ASYNCSTORE_<NAME>``, that before ``METAFLOW_<NAME>``, that before the files, that before the
default. Files and texts are read as ``metaflow_config_funcs.py`` of Metaflow 2.19 reads them, except that a value
of the wrong kind is a `ConfigError` where Metaflow takes it as it is or fails later.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Any, NoReturn, cast
from urllib.parse import urlsplit

from asyncstore.errors import ConfigError
from asyncstore.types import GIB, KIB, MIB, Durability, Json, Limits

_PROJECT_DIRECTORY = ".metaflow"
_FALSE = ("0", "false", "")
_UNITS = {"KiB": KIB, "MiB": MIB, "GiB": GIB}
# Metaflow's own order (util.get_username); root is nobody's name.
_USER_VARIABLES = ("SUDO_USER", "USERNAME", "USER")


@dataclass(frozen=True, slots=True)
class _Option:
    """How one field is read: ``parse`` takes what a variable or a file holds, ``check`` what any source gave."""

    expected: str
    parse: Callable[[Json], Any]
    check: Callable[[Any], bool]
    metaflow: bool
    secret: bool


def _text(raw: Json) -> str | None:
    if isinstance(raw, list | dict):
        raise TypeError
    return raw if raw is None or isinstance(raw, str) else str(raw)


def _integer(raw: Json) -> int:
    return int(cast("str", raw))  # a list or None is int's own TypeError


def _size(raw: Json) -> int:
    if isinstance(raw, str) and (unit := _UNITS.get(raw.strip()[-3:])):
        return int(raw.strip()[:-3]) * unit
    return _integer(raw)


def _octal(raw: Json) -> int:
    if isinstance(raw, str):
        return int(raw, 8)
    raise TypeError  # 640 in a JSON file is a decimal number and would silently be another mode


def _boolean(raw: Json) -> bool:
    if isinstance(raw, str):
        return raw.lower() not in _FALSE
    return cast("bool", raw)


def _mapping(raw: Json) -> Json:
    return cast("Json", json.loads(raw)) if isinstance(raw, str) else raw


def _is_count(value: object) -> bool:
    return isinstance(value, int) and value >= 1


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_text_or_none(value: object) -> bool:
    return value is None or isinstance(value, str)


def _is_headers(value: Any) -> bool:
    return isinstance(value, Mapping) and all(map(_is_text, cast("Mapping[str, object]", value).values()))


def _row(
    expected: str,
    parse: Callable[[Json], Any] = _text,
    check: Callable[[Any], bool] = _is_text_or_none,
    *,
    metaflow: bool = True,
    secret: bool = False,
) -> dict[str, _Option]:
    return {"option": _Option(expected, parse, check, metaflow, secret)}


def _ours(expected: str, parse: Callable[[Json], Any], check: Callable[[Any], bool]) -> dict[str, _Option]:
    return _row(expected, parse, check, metaflow=False)


_BYTES = _ours("bytes, such as 512MiB", _size, _is_count)
_COUNT = _ours("a whole number from 1", _integer, _is_count)


_RETRIES = _row(
    "a whole number from 0", _integer, lambda value: value is None or (isinstance(value, int) and value >= 0)
)


@dataclass(frozen=True, slots=True, repr=False)
class Config:
    """The options of one program.

    A text that is empty is what somebody set it to, and means the same as None. The repr leaves out credentials.
    """

    durability: Durability = field(
        default="safe",
        metadata=_ours("fast, safe or paranoid", _text, lambda value: value in ("fast", "safe", "paranoid")),
    )
    file_mode: int | None = field(
        default=None,
        metadata=_ours("octal text such as 0640", _octal, lambda value: value is None or 0 < value <= 0o777),
    )
    follow_symlinks: bool = field(
        default=False, metadata=_ours("true or false", _boolean, lambda value: isinstance(value, bool))
    )
    memory: int = field(default_factory=lambda: Limits().memory, metadata=_BYTES)
    max_blob_bytes: int = field(default_factory=lambda: Limits().max_blob_bytes, metadata=_BYTES)
    threads: int = field(default_factory=lambda: Limits().threads, metadata=_COUNT)
    requests: int = field(default_factory=lambda: Limits().requests, metadata=_COUNT)

    user: str | None = field(default=None, metadata=_row("a name"))
    default_datastore: str = field(default="local", metadata=_row("local, s3, azure or gs", check=_is_text))
    datastore_sysroot_local: str | None = field(default=None, metadata=_row("a directory"))
    datastore_sysroot_s3: str | None = field(default=None, metadata=_row("s3://bucket/prefix"))
    datastore_sysroot_azure: str | None = field(default=None, metadata=_row("container/prefix"))
    datastore_sysroot_gs: str | None = field(default=None, metadata=_row("gs://bucket/prefix"))
    s3_endpoint_url: str | None = field(default=None, metadata=_row("a URL"))
    s3_verify_certificate: str | None = field(default=None, metadata=_row("a file of certificates"))
    s3_server_side_encryption: str | None = field(default=None, metadata=_row("AES256 or aws:kms"))
    s3_retry_count: int | None = field(default=None, metadata=_RETRIES)
    s3_transient_retry_count: int | None = field(default=None, metadata=_RETRIES)
    azure_storage_blob_service_endpoint: str | None = field(default=None, metadata=_row("a URL"))
    service_url: str | None = field(default=None, metadata=_row("a URL"))
    service_auth_key: str | None = field(default=None, metadata=_row("a key", secret=True))
    service_headers: Mapping[str, str] = field(
        default_factory=dict[str, str],
        metadata=_row("a JSON object of texts", _mapping, _is_headers, secret=True),
    )

    def __repr__(self) -> str:
        shown = (f"{each.name}={_shown(each, getattr(self, each.name))}" for each in fields(self))
        return f"Config({', '.join(shown)})"

    @property
    def limits(self) -> Limits:
        """What a `Runtime` may use."""
        return Limits(
            memory=self.memory, threads=self.threads, requests=self.requests, max_blob_bytes=self.max_blob_bytes
        )


def load_config(
    *, environ: Mapping[str, str] | None = None, cwd: str | None = None, home: str | None = None, **explicit: Any
) -> Config:
    """Read the options from arguments, environment and files.

    ``explicit`` are fields of `Config`; None means not given. ``environ``, ``cwd`` and ``home`` stand in for those of
    the process. Reads at most two small files, at once: call it before the event loop is busy. Raises `ConfigError`.
    """
    environ = os.environ if environ is None else environ
    cwd = os.getcwd() if cwd is None else cwd
    home = environ.get("HOME", os.path.expanduser("~")) if home is None else home
    table = fields(Config)
    if unknown := explicit.keys() - {each.name for each in table}:
        raise ConfigError(f"there is no option {min(unknown)!r}; there are {', '.join(each.name for each in table)}")
    path, required = _general_file(environ, cwd, home)
    general = _read_file(path, required=required)
    project = _read_file(_project_file(cwd), required=False)
    values: dict[str, Any] = {}
    for each in table:
        option: _Option = each.metadata["option"]
        if explicit.get(each.name) is not None:
            values[each.name] = _checked(option, explicit[each.name], f"option {each.name}")
            continue
        names = [f"ASYNCSTORE_{each.name.upper()}"] + [f"METAFLOW_{each.name.upper()}"] * option.metaflow
        for place, source in (("environment", environ), project, general):
            name = next((name for name in names if name in source), None)
            if name is not None:
                values[each.name] = _parsed(option, source[name], f"{name} in the {place}")
                break
    if not values.get("user") or values["user"] == "root":
        users = (environ.get(name) for name in _USER_VARIABLES)
        values["user"] = next((user for user in users if user and user != "root"), None)
    if values.get("service_auth_key") is not None:
        # As metaflow_config.py does: the key is one more header, and wins over one of that name.
        values["service_headers"] = {**values.get("service_headers", {}), "x-api-key": values["service_auth_key"]}
    return Config(**values)


def _general_file(environ: Mapping[str, str], cwd: str, home: str) -> tuple[str, bool]:
    """Return the path of the user's file, and whether it must be there."""
    profile = environ.get("METAFLOW_PROFILE")
    name = f"config_{profile}.json" if profile else "config.json"
    path = os.path.join(environ.get("METAFLOW_HOME", "~/.metaflowconfig"), name)
    path = home + path[1:] if path.startswith("~/") else os.path.expanduser(path)
    return os.path.join(cwd, path), bool(profile)


def _project_file(cwd: str) -> str:
    """Return the path of ``config.json`` in the nearest ``.metaflow`` at or above ``cwd``, whether there or not."""
    current = cwd
    while not os.path.isdir(os.path.join(current, _PROJECT_DIRECTORY)) and os.path.dirname(current) != current:
        current = os.path.dirname(current)
    return os.path.join(current, _PROJECT_DIRECTORY, "config.json")


def _read_file(path: str, *, required: bool) -> tuple[str, Mapping[str, Json]]:
    place = f"file {path}"
    if not required and not os.path.exists(path):
        return place, {}
    try:
        with open(path, encoding="utf-8") as file:
            document = json.load(file)
    except FileNotFoundError:
        raise ConfigError(
            f"METAFLOW_PROFILE asks for {path}, which is not there: create it or unset the variable", where=path
        ) from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read the configuration {place}: {error}; mend it or remove it", where=path) from None
    if not isinstance(document, dict):
        raise ConfigError(f"the configuration {place} must hold one JSON object: mend it or remove it", where=path)
    return place, cast("dict[str, Json]", document)


def _parsed(option: _Option, raw: Json, source: str) -> Any:
    try:
        value = option.parse(raw)
    except (TypeError, ValueError, OverflowError):
        _refuse(option, raw, source)
    return _checked(option, value, source)


def _checked(option: _Option, value: Any, source: str) -> Any:
    if not option.check(value):
        _refuse(option, value, source)
    return value


def _refuse(option: _Option, value: object, source: str) -> NoReturn:
    got = "" if option.secret else f", not {value!r}"
    raise ConfigError(f"{source} must be {option.expected}{got}: set it to that or remove it", where=source)


def _shown(each: Field[Any], value: Any) -> str:
    option: _Option = each.metadata["option"]
    if option.secret:
        return "'***'" if value else repr(value)
    if isinstance(value, str) and "://" in value:
        # A user and password, or the signature of a query, may stand in any URL.
        url = urlsplit(value)
        return repr(url._replace(netloc=url.netloc.rpartition("@")[2], query="***" if url.query else "").geturl())
    return repr(value)
