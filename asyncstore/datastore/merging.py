"""Which artifacts of the inputs of a join go on: a plan by keys, without loading anything.

Follows ``FlowSpec.merge_artifacts`` of Metaflow 2.19.
"""

from __future__ import annotations

from collections.abc import Collection, ItemsView, Sequence

from asyncstore.errors import ConfigError, MergeConflictError, MergeMissingError
from asyncstore.types import Key

NEVER_MERGED = frozenset(
    {
        "_foreach_values",
        "_unbounded_foreach",
        "_control_mapper_tasks",
        "_control_task_is_mapper_zero",
        "_parallel_ubf_iter",
    }
)
"""Artifacts of Metaflow's own that speak of one branch only; merged if they are included by name."""


def plan_merge(
    inputs: Sequence[ItemsView[str, Key]],
    *,
    step: str,
    present: Collection[str] = (),
    include: Collection[str] = (),
    exclude: Collection[str] = (),
) -> dict[str, int]:
    """Return for each artifact to merge the position of the input that it is taken from, the first that has it.

    ``present`` are names that the step has set itself; they are left alone. Values are equal if their keys are.
    Raises `MergeConflictError` for names whose keys differ, `MergeMissingError` for included names that nobody has,
    and `ConfigError` if both ``include`` and ``exclude`` are given.
    """
    if include and exclude:
        raise ConfigError(f"step {step!r}: give include or exclude to merge_artifacts, not both")
    merged: dict[str, tuple[int, Key]] = {}
    conflicts: dict[str, None] = {}
    for position, items in enumerate(inputs):
        for name, key in items:
            asked = name in include if include else name not in exclude and name not in NEVER_MERGED
            if asked and name not in present and merged.setdefault(name, (position, key))[1] != key:
                conflicts[name] = None
    if conflicts:
        raise MergeConflictError(
            f"step {step!r}: the inputs differ in {', '.join(conflicts)}; set these before merge_artifacts, "
            "or exclude them",
            artifact_names=tuple(conflicts),
        )
    missing = tuple(name for name in include if name not in merged and name not in present)
    if missing:
        raise MergeMissingError(
            f"step {step!r}: no input has {', '.join(missing)}; include only what at least one branch has",
            artifact_names=missing,
        )
    return {name: position for name, (position, _) in merged.items()}
