"""Pickles exactly as Metaflow does, so that equal objects get equal keys.

Protocol 4, as ``plugins/datastores/serializers/pickle_serializer.py`` of Metaflow 2.19. Metaflow's own classes must
be stored under names that are not importable here (``__main__.ForeachFrame``). The C pickler insists on importing
every global that it writes; putting names into ``__main__`` or ``sys.modules`` for its sake would be seen by the
whole program. Graphs that hold one of those classes are therefore written by a pickler in Python that spells the
names itself; all others take the C pickler untouched.
"""

from __future__ import annotations

import copyreg
import io
import pickle
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, ClassVar, NoReturn

from asyncstore.datastore.values import STORED_NAMES

PROTOCOL = 4
_SCALARS = frozenset({type(None), bool, int, float, str, bytes})
_BATCH = 1000  # items per APPENDS, SETITEMS and ADDITEMS, as in C


class _HoldsFrameworkValueError(Exception):
    """The graph holds one of Metaflow's classes."""


def _stop(_value: object) -> NoReturn:
    raise _HoldsFrameworkValueError


def dumps(value: object) -> bytes:
    """Return the bytes that Metaflow would store for ``value``; raises what pickling raises."""
    if type(value) in _SCALARS:  # what most artifacts are; a pickler of its own costs ten times as much
        return pickle.dumps(value, PROTOCOL)
    buffer = io.BytesIO()
    pickler = pickle.Pickler(buffer, PROTOCOL)
    # A table of the pickler's own replaces copyreg's, hence the copy.
    pickler.dispatch_table = {**copyreg.dispatch_table, **dict.fromkeys(STORED_NAMES, _stop)}
    try:
        pickler.dump(value)
    except _HoldsFrameworkValueError:
        buffer = io.BytesIO()
        PrivatePickler(buffer).dump(value)
    return buffer.getvalue()


# The library's pickler in Python: the only one that can be told how to spell a global.
_PythonPickler: Any = vars(pickle)["_Pickler"]


class PrivatePickler(_PythonPickler):  # type: ignore[misc]  # typed by what it does here
    """Writes what the C pickler writes, with `STORED_NAMES` for Metaflow's classes.

    The library's pickler in Python groups the items of large containers differently from the one in C; the three
    methods below group as C does.
    """

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, PROTOCOL)

    def _save_class(self, value: type) -> None:
        name = STORED_NAMES.get(value)
        if name is None:
            super().save_type(value)
            return
        self.save(name[0])
        self.save(name[1])
        self.write(pickle.STACK_GLOBAL)
        self.memoize(value)

    def _save_list(self, value: list[Any]) -> None:
        self.write(pickle.EMPTY_LIST)
        self.memoize(value)
        if len(value) == 1:
            self.save(value[0])
            self.write(pickle.APPEND)
            return
        items = iter(value)
        while batch := list(islice(items, _BATCH)):
            self.write(pickle.MARK)
            for item in batch:
                self.save(item)
            self.write(pickle.APPENDS)

    def _save_dict(self, value: dict[Any, Any]) -> None:
        self.write(pickle.EMPTY_DICT)
        self.memoize(value)
        if len(value) == 1:
            for key, item in value.items():
                self.save(key)
                self.save(item)
            self.write(pickle.SETITEM)
            return
        for batch in _batches(iter(value.items()), len(value)):
            self.write(pickle.MARK)
            for key, item in batch:
                self.save(key)
                self.save(item)
            self.write(pickle.SETITEMS)

    def _save_set(self, value: set[Any]) -> None:
        self.write(pickle.EMPTY_SET)
        self.memoize(value)
        for batch in _batches(iter(value), len(value)):
            self.write(pickle.MARK)
            for item in batch:
                self.save(item)
            self.write(pickle.ADDITEMS)

    dispatch: ClassVar[dict[type, Callable[..., None]]] = {
        **_PythonPickler.dispatch,
        type: _save_class,
        list: _save_list,
        dict: _save_dict,
        set: _save_set,
    }


def _batches(items: Iterator[Any], count: int) -> Iterator[list[Any]]:
    """Give batches as C does for exact dicts and sets: a full last batch is followed by an empty one."""
    if count == 0:
        return
    while True:
        batch = list(islice(items, _BATCH))
        yield batch
        if len(batch) < _BATCH:
            return
