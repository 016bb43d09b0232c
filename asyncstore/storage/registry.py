"""Opens storages by URL; a backend's module is imported when the first URL asks for it."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields
from functools import partial
from importlib import import_module
from types import MappingProxyType
from typing import Any, Final, Protocol, cast

import anyio
import anyio.to_thread

from asyncstore.config import Config, load_config
from asyncstore.errors import ConfigError, MissingDependencyError
from asyncstore.runtime import Runtime
from asyncstore.storage.base import DataStoreStorage
from asyncstore.storage.limited import Limited
from asyncstore.storage.retrying import Retrying
from asyncstore.storage.url import StorageUrl, parse_url
from asyncstore.types import Limits, RetryPolicy, Timeouts, Transport


@dataclass(frozen=True, slots=True)
class StorageSettings:
    """What a backend is built from beside its URL; ``options`` are those that its row in the table allows."""

    runtime: Runtime
    timeouts: Timeouts
    transport: Transport
    options: Mapping[str, Any]


class _Build(Protocol):
    """Builds a backend; makes no request and opens no connection."""

    def __call__(self, url: StorageUrl, settings: StorageSettings) -> DataStoreStorage: ...


@dataclass(frozen=True, slots=True)
class _Backend:
    build: _Build
    options: frozenset[str] = frozenset()


def _build_local(url: StorageUrl, settings: StorageSettings) -> DataStoreStorage:
    from asyncstore.storage.local import LocalStorage

    return LocalStorage(url.place, runtime=settings.runtime, **settings.options)


def _build_memory(url: StorageUrl, settings: StorageSettings) -> DataStoreStorage:
    from asyncstore.storage.memory import MemoryStorage

    return MemoryStorage(url.place, runtime=settings.runtime)


@dataclass(frozen=True, slots=True)
class _Cloud:
    """A backend whose SDK is an extra; its module offers ``build(url, settings)``."""

    module: str
    extra: str
    package: str

    def __call__(self, url: StorageUrl, settings: StorageSettings) -> DataStoreStorage:
        try:
            module = import_module(self.module)
        except ModuleNotFoundError as error:
            if error.name == self.module:
                raise ConfigError(
                    f"{url}: this version of asyncstore has no storage for {url.scheme}://; install a newer one",
                    where=str(url),
                ) from None
            if error.name is not None and error.name.partition(".")[0] == "asyncstore":
                raise
            raise MissingDependencyError(
                f"{url} needs the package {self.package}: pip install 'asyncstore[{self.extra}]'",
                package=self.package,
                where=str(url),
            ) from error
        return cast("_Build", module.build)(url, settings)


_BACKENDS: Final[Mapping[str, _Backend]] = MappingProxyType(
    {
        "file": _Backend(_build_local, frozenset({"durability", "file_mode", "follow_symlinks"})),
        "memory": _Backend(_build_memory),
        "s3": _Backend(
            _Cloud("asyncstore.storage.s3", "s3", "aiobotocore"),
            frozenset(
                {
                    "endpoint_url",
                    "region",
                    "profile",
                    "credentials_file",
                    "verify",
                    "addressing",
                    "checksum",
                    "conditional_writes",
                    "server_side_encryption",
                    "kms_key_id",
                }
            ),
        ),
        "azure": _Backend(_Cloud("asyncstore.storage.azure", "azure", "azure-storage-blob")),
        "gs": _Backend(_Cloud("asyncstore.storage.gs", "gs", "gcloud-aio-storage")),
    }
)


@asynccontextmanager
async def open_storage(
    url: str | os.PathLike[str],
    *,
    runtime: Runtime | None = None,
    limits: Limits | None = None,
    timeouts: Timeouts | None = None,
    transport: Transport = "auto",
    retry: RetryPolicy | None = None,
    **options: Any,
) -> AsyncGenerator[DataStoreStorage]:
    """Open the storage at a URL or path, with limits and retries, and close it behind the block.

    Makes no request. Without ``runtime``, a runtime of its own within ``limits``, which the block owns too. A local
    root is made by the first write. Options that are not given come from the environment and Metaflow's files.
    Raises `ConfigError` for a bad URL or option and `MissingDependencyError` where an extra is not installed.
    """
    build = partial(build_storage, runtime=runtime, limits=limits, timeouts=timeouts, transport=transport, retry=retry)
    # In a thread: it reads configuration files and imports a cloud's SDK.
    storage = await anyio.to_thread.run_sync(partial(build, url, **options))
    try:
        yield storage
    finally:
        try:
            await storage.aclose()
        finally:
            if runtime is None:
                await storage.runtime.aclose()


def build_storage(
    url: str | os.PathLike[str],
    *,
    runtime: Runtime | None = None,
    limits: Limits | None = None,
    timeouts: Timeouts | None = None,
    transport: Transport = "auto",
    retry: RetryPolicy | None = None,
    **options: Any,
) -> DataStoreStorage:
    """Return what `open_storage` opens, for a caller that closes it, and its runtime if none is given.

    Reads at most two small files and imports the backend: call it before the event loop is busy.
    """
    if runtime is not None and limits is not None:
        raise ConfigError("give a runtime or limits, not both: the runtime has its limits")
    address = parse_url(url)
    backend = _BACKENDS[address.scheme]
    if unknown := options.keys() - backend.options:
        allowed = ", ".join(sorted(backend.options)) or "none"
        raise ConfigError(
            f"{address} takes no option {min(unknown)!r}; it takes {allowed}, and for every storage runtime, limits, "
            "timeouts, transport and retry",
            where=str(address),
        )
    settable = backend.options & {each.name for each in fields(Config)}
    config = load_config(**{name: options[name] for name in settable & options.keys()})
    settings = StorageSettings(
        runtime=runtime or Runtime(limits or config.limits),
        timeouts=timeouts or Timeouts(),
        transport=transport,
        options=options | {name: getattr(config, name) for name in settable},
    )
    return Retrying(Limited(backend.build(address, settings)), retry or _configured_retry(address.scheme, config))


def _configured_retry(scheme: str, config: Config) -> RetryPolicy | None:
    # Metaflow's words for S3: the larger of the two bounds a single operation. Delays and deadlines are ours.
    counts = (config.s3_retry_count, config.s3_transient_retry_count) if scheme == "s3" else ()
    given = [count for count in counts if count is not None]
    return RetryPolicy(attempts=1 + max(given)) if given else None
