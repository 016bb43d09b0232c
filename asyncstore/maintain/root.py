"""Where Metaflow keeps its data here, as its settings say."""

from __future__ import annotations

import os

from asyncstore.config import Config
from asyncstore.errors import ConfigError
from asyncstore.metadata.local_root import find_local_root


def configured_root(config: Config, directory: str | os.PathLike[str] = ".") -> str:
    """Return the URL or path of the datastore that Metaflow would use in ``directory``.

    Raises `ConfigError` if the settings name a cloud without its root.
    """
    kind = config.default_datastore
    if kind == "local":
        return find_local_root(directory, sysroot=config.datastore_sysroot_local)
    roots = {
        "s3": config.datastore_sysroot_s3,
        "azure": config.datastore_sysroot_azure and f"azure://{config.datastore_sysroot_azure}",
        "gs": config.datastore_sysroot_gs,
    }
    if root := roots.get(kind):
        return root
    raise ConfigError(
        f"METAFLOW_DEFAULT_DATASTORE is {kind!r}, and no root is set for it: "
        f"set METAFLOW_DATASTORE_SYSROOT_{kind.upper()}, or give a URL",
        where="METAFLOW_DEFAULT_DATASTORE",
    )
