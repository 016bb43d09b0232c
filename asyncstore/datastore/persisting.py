"""Which attributes of a flow object are artifacts.

Follows ``TaskDataStore.persist`` of Metaflow 2.19.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import FunctionType, MethodType
from typing import Any

EPHEMERAL = frozenset(
    {
        "_EPHEMERAL",
        "_NON_PARAMETERS",
        "_datastore",
        "_cached_input",
        "_graph",
        "_flow_state",
        "_steps",
        "index",
        "input",
    }
)
"""Attributes of Metaflow's flows that belong to the running task."""


def is_parameter(value: object) -> bool:
    """Say whether a value is the declaration of a parameter, by Metaflow's class or one named like it."""
    return any(kind.__name__ == "Parameter" for kind in type(value).__mro__)


def artifact_names(flow: object, *, skip: Callable[[object], bool] = is_parameter) -> list[str]:
    """Return the names of a flow's artifacts in the order in which Metaflow saves them: reversed.

    All attributes but names with two underscores, `EPHEMERAL` ones, properties of the class (parameters and constants
    of a running task), methods, functions, and what ``skip`` says of values.
    """
    names: list[str] = []
    for name in dir(flow):
        if name.startswith("__") or name in EPHEMERAL or isinstance(getattr(type(flow), name, None), property):
            continue
        value = getattr(flow, name)
        if not isinstance(value, MethodType | FunctionType) and not skip(value):
            names.append(name)
    return names[::-1]


def take_artifacts(flow: object, *, skip: Callable[[object], bool] = is_parameter) -> Iterator[tuple[str, Any]]:
    """Give a flow's artifacts and remove the public ones from it as they are given, to free their memory.

    ``name`` and names with an underscore stay, since who runs the flow needs them.
    """
    for name in artifact_names(flow, skip=skip):
        value = getattr(flow, name)
        if not name.startswith("_") and name != "name" and name in vars(flow):
            delattr(flow, name)
        yield name, value
