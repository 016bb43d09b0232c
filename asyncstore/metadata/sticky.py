"""The tags and the owner that a provider puts on what it registers."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable

from asyncstore.metadata.payloads import Stamp
from asyncstore.metadata.system import SystemInfo
from asyncstore.metadata.tags import check_new_tags, check_tags


class Stamper:
    """Makes stamps from the sticky tags, the system's own and the time; part of each provider's state.

    Without ``system`` the environment is read when the first stamp is made, so that reading needs no user name.
    """

    def __init__(self, system: SystemInfo | None) -> None:
        self._system = system
        self._tags: tuple[str, ...] = ()
        self._system_tags: tuple[str, ...] = ()

    @property
    def system(self) -> SystemInfo:
        """Who writes."""
        if self._system is None:
            self._system = SystemInfo.from_environment(os.environ)
        return self._system

    def add(self, tags: Iterable[str], system_tags: Iterable[str]) -> None:
        """Add sticky tags."""
        self._tags = check_new_tags((*self._tags, *check_tags(tags)))
        self._system_tags = check_tags((*self._system_tags, *check_tags(system_tags, "system_tags")))

    def stamp(self, flow: str, tags: Iterable[str] = (), system_tags: Iterable[str] = ()) -> Stamp:
        """Return the stamp of something created now."""
        return Stamp(
            flow=flow,
            user_name=self.system.user_name,
            tags=check_new_tags((*self._tags, *check_tags(tags))),
            system_tags=tuple(
                dict.fromkeys((*self.system.tags, *self._system_tags, *check_tags(system_tags, "system_tags")))
            ),
            ts_epoch=time.time_ns() // 1_000_000,
        )
