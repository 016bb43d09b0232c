"""What a join step is given: the branches that meet in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar

T = TypeVar("T")


def _current_step(flow: Any) -> str:
    return str(flow._current_step)  # noqa: SLF001  # an artifact of Metaflow's, private by name only


class Inputs(Generic[T]):
    """Flows, or other views of finished tasks, in the order of the input paths.

    ``inputs[0]``, iteration, and ``inputs.step_name``: of several tasks of one step, the last one. ``step_of`` tells
    the step of a flow; by default its ``_current_step``.
    """

    def __init__(self, flows: Iterable[T], *, step_of: Callable[[T], str] = _current_step) -> None:
        self.flows = list(flows)
        self._by_step = {step_of(flow): flow for flow in self.flows}

    def __getattr__(self, name: str) -> T:
        by_step: dict[str, T] = self.__dict__.get("_by_step", {})
        try:
            return by_step[name]
        except KeyError:
            steps = ", ".join(by_step) or "none"
            raise AttributeError(f"no input comes from step {name!r}; the steps are: {steps}") from None

    def __getitem__(self, position: int) -> T:
        return self.flows[position]

    def __iter__(self) -> Iterator[T]:
        return iter(self.flows)

    def __len__(self) -> int:
        return len(self.flows)
