"""Finds tasks and their attempts by listing, never by probing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from asyncstore.concurrency import run_all
from asyncstore.datastore.attempts import Attempts
from asyncstore.datastore.context import FlowContext
from asyncstore.layout import run_path, step_path
from asyncstore.types import TaskPath

STEP_LISTING_FROM = 8
"""From so many tasks of one step on, listing the step is taken to be cheaper than listing each task."""

Found = dict[TaskPath, Attempts]


async def attempts_of(context: FlowContext, task: TaskPath) -> Attempts:
    """Return the attempts of one task; none if it does not exist. One listing."""
    directory = context.directory(task)
    attempts = Attempts.of()
    async with context.storage.list(directory) as entries:
        async for entry in entries:
            attempts.note(entry.path[len(directory) + 1 :])
    return attempts


async def tasks_of_run(context: FlowContext, run: str, steps: Iterable[str] | None) -> Found:
    """Return the tasks of a run, or of some of its steps, by step and number. One listing, or one per step."""
    found: Found = {}
    if steps is None:
        await _list(context, run_path(context.flow, run), found)
    else:
        directories = [step_path(context.flow, run, step) for step in dict.fromkeys(steps)]
        await run_all(directories, lambda path: _list(context, path, found), width=context.runtime.limits.requests)
    return {task: found[task] for task in sorted(found, key=_order)}


async def named_tasks(context: FlowContext, tasks: Iterable[TaskPath]) -> Found:
    """Return those of the tasks that exist. One listing per task; per step, where many are asked for."""
    wanted = dict.fromkeys(tasks)
    by_step: dict[str, list[TaskPath]] = defaultdict(list)
    for task in wanted:
        by_step[step_path(context.flow, task.run, task.step)].append(task)
    found: Found = {}
    alone = [task for group in by_step.values() if len(group) < STEP_LISTING_FROM for task in group]
    steps = [step for step, group in by_step.items() if len(group) >= STEP_LISTING_FROM]

    async def look(task: TaskPath) -> None:
        found[task] = await attempts_of(context, task)

    await run_all(alone, look, width=context.runtime.limits.requests)
    await run_all(steps, lambda path: _list(context, path, found), width=context.runtime.limits.requests)
    return {task: found[task] for task in wanted if task in found}


async def _list(context: FlowContext, directory: str, found: Found) -> None:
    start = len(context.flow) + 1
    async with context.storage.list(directory, recursive=True) as entries:
        async for entry in entries:
            ids = entry.path[start:].split("/")
            if len(ids) == 4 and entry.kind == "object":
                run, step, task, name = ids
                path = TaskPath(run, step, task)
                if path not in found:
                    found[path] = Attempts.of()
                found[path].note(name)


def _order(task: TaskPath) -> tuple[str, bool, int, str]:
    number = int(task.task) if task.task.isdecimal() else 0
    return task.step, not task.task.isdecimal(), number, task.task
