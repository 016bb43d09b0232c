"""The tags and the owner that a provider puts on what it registers."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable

from asyncstore.concurrency import ThreadPool
from asyncstore.config import load_config
from asyncstore.metadata.payloads import Stamp
from asyncstore.metadata.records import MetaDatum
from asyncstore.metadata.system import SystemInfo
from asyncstore.metadata.tags import check_new_tags, check_tags


class Stamper:
    """Makes stamps from the sticky tags, the system's own and the time; part of each provider's state.

    Without ``system`` environment and configuration are read for the first stamp, so that reading metadata needs no
    user name.
    """

    def __init__(self, system: SystemInfo | None) -> None:
        self._system = system
        self._tags: tuple[str, ...] = ()
        self._system_tags: tuple[str, ...] = ()

    def add(self, tags: Iterable[str], system_tags: Iterable[str]) -> None:
        """Add sticky tags."""
        self._tags = check_new_tags((*self._tags, *check_tags(tags)))
        self._system_tags = check_tags((*self._system_tags, *check_tags(system_tags, "system_tags")))

    async def stamp(
        self, pool: ThreadPool, flow: str, tags: Iterable[str] = (), system_tags: Iterable[str] = ()
    ) -> Stamp:
        """Return the stamp of something created now."""
        system = await self._known(pool)
        return Stamp(
            flow=flow,
            user_name=system.user_name,
            tags=check_new_tags((*self._tags, *check_tags(tags))),
            system_tags=tuple(
                dict.fromkeys((*system.tags, *self._system_tags, *check_tags(system_tags, "system_tags")))
            ),
            ts_epoch=time.time_ns() // 1_000_000,
        )

    async def metadata(self, pool: ThreadPool, attempt: int) -> list[MetaDatum]:
        """Return the system metadata of an attempt."""
        return (await self._known(pool)).metadata(attempt)

    async def _known(self, pool: ThreadPool) -> SystemInfo:
        if self._system is None:
            self._system = await pool.run(_from_here)
        return self._system


def _from_here() -> SystemInfo:
    return SystemInfo.from_environment(os.environ, user_name=load_config().user)
