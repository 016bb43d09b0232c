"""The three classes of Metaflow's own that its artifacts contain, usable without Metaflow.

Follows Metaflow 2.19: ``tuple_util.py``, ``exception.py`` and ``includefile.py``. Stored pickles name them as
`STORED_NAMES` says; `asyncstore.datastore.pickling` writes and `asyncstore.datastore.unpickle` reads those names.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple


class ForeachFrame(NamedTuple):
    """One level of a foreach; fields that an older writer did not know are None.

    ``step`` is the body of the foreach, ``value`` a short text for the item.
    """

    step: str | None = None
    var: str | None = None
    num_splits: int | None = None
    index: int | None = None  # type: ignore[assignment]  # pyright: ignore[reportIncompatibleMethodOverride]  # Metaflow's name
    value: Any = None


class MetaflowExceptionWrapper(Exception):  # noqa: N818  # Metaflow's name
    """What is kept of an exception that ended a task: its text, type and stack trace."""

    exception: str
    type: str
    stacktrace: str | None

    def __init__(self, exc: BaseException | None = None) -> None:
        super().__init__()
        if exc is not None:
            kind = type(exc)
            self.exception = str(exc)
            self.type = f"{kind.__module__}.{kind.__name__}"
            self.stacktrace = "".join(traceback.format_exception(exc)) if exc.__traceback__ else None

    def __reduce__(self) -> tuple[Any, ...]:
        # Metaflow's own form: the class called with (None,), then the attributes as the state.
        return type(self), (None,), self.__dict__

    def __setstate__(self, state: dict[str, Any] | None, /) -> None:
        self.__dict__.update(state or {})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MetaflowExceptionWrapper) and self.__dict__ == other.__dict__

    def __hash__(self) -> int:
        return hash((self.__dict__.get("exception"), self.__dict__.get("type")))

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        known = self.__dict__
        return known.get("stacktrace") or f"[no stacktrace]\n{known.get('type')}: {known.get('exception')}"


class IncludedFile:
    """A file that was stored beside the artifacts; ``descriptor`` says where and how."""

    def __init__(self, descriptor: dict[str, Any]) -> None:
        # The attribute names are part of the stored form.
        self._descriptor = descriptor
        self._cached_size: int | None = None

    @property
    def descriptor(self) -> dict[str, Any]:
        return self._descriptor

    def __eq__(self, other: object) -> bool:
        return isinstance(other, IncludedFile) and self._descriptor == other._descriptor

    def __hash__(self) -> int:
        return hash(self._descriptor.get("url"))

    def __repr__(self) -> str:
        return f"IncludedFile({self._descriptor!r})"


STORED_NAMES: Mapping[type, tuple[str, str]] = MappingProxyType(
    {
        ForeachFrame: ("__main__", "ForeachFrame"),
        MetaflowExceptionWrapper: ("metaflow.exception", "MetaflowExceptionWrapper"),
        IncludedFile: ("metaflow.includefile", "IncludedFile"),
    }
)


def type_text(value: object) -> str:
    """Return what Metaflow records as the type of an artifact: ``str(type(value))``."""
    stored = STORED_NAMES.get(type(value))
    return f"<class '{stored[0]}.{stored[1]}'>" if stored else str(type(value))


INCLUDED_FILE_TYPE = "<class 'metaflow.includefile.IncludedFile'>"
"""The recorded type of an `IncludedFile`: the size and value of such an artifact are those of the file."""
