"""What a provider records of the program that writes: system tags and system metadata.

Follows Metaflow 2.19 ``metadata_provider/metadata.py``.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from asyncstore.errors import ConfigError
from asyncstore.metadata.attempts import attempt_tag
from asyncstore.metadata.records import MetaDatum
from asyncstore.types import Json

METAFLOW_VERSION: Final = "2.19.38+asyncstore"
"""The Metaflow whose records we write, marked as Metaflow marks an extension. A service reads the leading digits
and keeps heartbeats of versions from 2.2.12 on."""

_CODE_VARIABLES: Final = (
    ("ds_type", "METAFLOW_CODE_DS"),
    ("sha", "METAFLOW_CODE_SHA"),
    ("location", "METAFLOW_CODE_URL"),
    ("metadata", "METAFLOW_CODE_METADATA"),
)


@dataclass(frozen=True, slots=True)
class SystemInfo:
    """Who writes, and from what.

    ``production_token`` stands for the user in tags and metadata if it is given. ``code_package`` and ``git_info``
    are recorded as JSON text, entries without a value left out of ``git_info``.
    """

    user_name: str
    runtime: str = "dev"
    python_version: str = field(default_factory=platform.python_version)
    production_token: str | None = None
    metaflow_version: str = METAFLOW_VERSION
    script_name: str | None = None
    code_package: Mapping[str, Json] | None = None
    git_info: Mapping[str, Json] | None = None

    @classmethod
    def from_environment(
        cls, environ: Mapping[str, str], *, user_name: str | None, script_name: str | None = None
    ) -> SystemInfo:
        """Read Metaflow's variables; ``user_name`` is the configured one (`Config.user`), None is a `ConfigError`."""
        if user_name is None:
            raise ConfigError("no user name to record as the owner; set METAFLOW_USER")
        code: dict[str, Json] = {key: environ.get(variable) for key, variable in _CODE_VARIABLES}
        return cls(
            user_name=user_name,
            runtime=environ.get("METAFLOW_RUNTIME_NAME") or "dev",
            production_token=environ.get("METAFLOW_PRODUCTION_TOKEN") or None,
            script_name=script_name,
            code_package=code if environ.get("METAFLOW_CODE_SHA") else None,
        )

    @property
    def entries(self) -> tuple[tuple[str, str], ...]:
        """Names and values, in Metaflow's order."""
        token = self.production_token
        return (
            ("runtime", self.runtime),
            ("python_version", self.python_version),
            ("user", self.user_name) if token is None else ("production", token),
            ("metaflow_version", self.metaflow_version),
        )

    @property
    def tags(self) -> tuple[str, ...]:
        """The system tags of runs, steps, tasks and artifacts."""
        return tuple(f"{name}:{value}" for name, value in self.entries)

    def metadata(self, attempt: int) -> list[MetaDatum]:
        """Return the system metadata of an attempt."""
        rows = list(self.entries)
        if self.code_package is not None:
            rows.append(("code-package", json.dumps(dict(self.code_package))))
        if self.script_name is not None:
            rows.append(("script-name", self.script_name))
        git = {key: value for key, value in (self.git_info or {}).items() if value not in (None, "")}
        if git:
            rows.append(("git-info", json.dumps(git)))
        return [MetaDatum(name, value, name, (attempt_tag(attempt),)) for name, value in rows]
