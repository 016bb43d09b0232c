"""Reads a pickle's opcodes without running any, for the two things that an unpickler does behind a policy's back.

It sets attributes and items on whatever is on its stack: admitted classes and functions that are written in Python
could be changed for the whole process. And it takes extension codes from copyreg's cache without asking for the
global. The walk below follows the stack far enough to see both.
"""

from __future__ import annotations

import pickletools
from typing import Final

from asyncstore.types import Buffer

_PUSH, _OTHER, _MEMOIZE, _GLOBAL, _GET, _PUT, _CHANGE, _DUP, _EXTENSION, _MARK, _POP, _STOP = range(12)
_KINDS: Final = {
    **dict.fromkeys(("GLOBAL", "STACK_GLOBAL"), _GLOBAL),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _GET),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), _PUT),
    **dict.fromkeys(("BUILD", "APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS"), _CHANGE),
    **dict.fromkeys(("EXT1", "EXT2", "EXT4"), _EXTENSION),
    "MEMOIZE": _MEMOIZE,
    "DUP": _DUP,
    "MARK": _MARK,
    "POP": _POP,
    "STOP": _STOP,
}
# Bytes of the length that stands before an argument, by pickletools' code for it.
_PREFIXES: Final = {
    pickletools.TAKEN_FROM_ARGUMENT1: 1,
    pickletools.TAKEN_FROM_ARGUMENT4: 4,
    pickletools.TAKEN_FROM_ARGUMENT4U: 4,
    pickletools.TAKEN_FROM_ARGUMENT8U: 8,
}
_Rule = tuple[int, int, int, int, int, bool, bool]


def _rule(opcode: pickletools.OpcodeInfo) -> _Rule:
    """Return (kind, fixed bytes, newlines, prefix bytes, pops, pops to a mark, pushes) of one opcode."""
    size = 0 if opcode.arg is None else opcode.arg.n
    lines = (2 if opcode.name in {"GLOBAL", "INST"} else 1) if size == pickletools.UP_TO_NEWLINE else 0
    prefix = _PREFIXES.get(size, 0)
    before = [item.name for item in opcode.stack_before]
    to_mark = "mark" in before
    pops = before.index("mark") if to_mark else len(before)
    pushes = bool(opcode.stack_after)
    kind = _KINDS.get(opcode.name, _PUSH if pushes and not before else _OTHER)
    return kind, max(size, 0), lines, prefix, pops, to_mark, pushes


_RULES: Final = {ord(opcode.code): _rule(opcode) for opcode in pickletools.opcodes}


class SuspectPickleError(ValueError):
    """The pickle does something that no pickler writes."""


def scan(data: Buffer) -> None:
    """Raise `SuspectPickleError` if the pickle changes a global or uses an extension code, or cannot be followed."""
    body = data if isinstance(data, bytes) else bytes(data)
    stack: list[bool] = []  # True stands for a global
    marks: list[int] = []
    memo: dict[int, bool] = {}
    at = 0
    try:
        while True:
            kind, fixed, lines, prefix, pops, to_mark, pushes = _RULES[body[at]]
            start = at = at + 1
            if prefix:
                at += prefix + int.from_bytes(body[at : at + prefix], "little")
            else:
                at += fixed
                for _ in range(lines):
                    at = body.index(b"\n", at) + 1
            if kind == _PUSH:
                stack.append(False)
            elif kind == _MEMOIZE:
                memo[len(memo)] = stack[-1]
            elif kind == _GET:
                stack.append(memo[_number(body, start, at, lines)])
            elif kind == _PUT:
                memo[_number(body, start, at, lines)] = stack[-1]
            elif kind == _MARK:
                marks.append(len(stack))
            elif kind == _DUP:
                stack.append(stack[-1])
            elif kind == _POP:
                if marks and marks[-1] == len(stack):
                    marks.pop()  # on a mark, POP takes the mark
                else:
                    stack.pop()
            elif kind == _STOP:
                return
            elif kind == _EXTENSION:
                raise SuspectPickleError("it uses an extension code of copyreg")
            else:
                if to_mark:
                    del stack[marks.pop() :]
                if pops:
                    target = stack[-pops]
                    del stack[-pops:]
                    if kind == _CHANGE and target:
                        raise SuspectPickleError("it changes a class or function instead of an instance")
                if pushes:
                    stack.append(kind == _GLOBAL)
    except (KeyError, IndexError, ValueError, OverflowError) as error:
        if isinstance(error, SuspectPickleError):
            raise
        raise SuspectPickleError("its opcodes cannot be followed") from error


def _number(body: bytes, start: int, end: int, lines: int) -> int:
    return int(body[start : end - 1]) if lines else int.from_bytes(body[start:end], "little")
