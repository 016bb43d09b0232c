"""Pickles are Metaflow's to the byte, with and without its classes in the graph."""

from __future__ import annotations

import collections
import copyreg
import gzip
import hashlib
import io
import pickle
import pickletools
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncstore.datastore.pickling import PrivatePickler, dumps
from asyncstore.datastore.trust import TrustPolicy
from asyncstore.datastore.unpickle import loads
from asyncstore.datastore.values import (
    INCLUDED_FILE_TYPE,
    ForeachFrame,
    IncludedFile,
    MetaflowExceptionWrapper,
    type_text,
)
from tests.golden import expected, extract

METAFLOW = TrustPolicy.parse("metaflow")


def private(value: object) -> bytes:
    buffer = io.BytesIO()
    PrivatePickler(buffer).dump(value)
    return buffer.getvalue()


class Point:
    def __init__(self, x: int) -> None:
        self.x = x


class Slotted:
    __slots__ = ("a", "b")
    a: Any


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=10)
    | st.binary(max_size=300)
    | st.complex_numbers()
    | st.builds(bytearray, st.binary(max_size=5))
    | st.sampled_from([int, type(None), len, Point, copyreg._reconstructor])  # type: ignore[attr-defined]
    | st.builds(Point, st.integers(0, 300))
)
graphs = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(st.text(max_size=3), inner, max_size=5)
        | st.tuples(inner)
        | st.tuples(inner, inner, inner, inner)
        | st.builds(lambda item: [item, item, (item,)], inner)
        | st.builds(lambda item: collections.OrderedDict(a=item), inner)
    ),
    max_leaves=30,
)


@given(graphs)
@settings(max_examples=300, deadline=None)
def test_the_private_pickler_writes_what_the_c_pickler_writes(graph: Any) -> None:
    assert private(graph) == pickle.dumps(graph, 4)


@pytest.mark.parametrize("size", [0, 1, 2, 999, 1000, 1001, 2000, 2001])
@pytest.mark.parametrize("make", [list, set, frozenset, tuple, collections.deque, lambda items: {i: i for i in items},
                                  lambda items: collections.OrderedDict((i, i) for i in items)])  # fmt: skip
def test_containers_of_every_batch_size_are_grouped_as_in_c(make: Any, size: int) -> None:
    value = make(range(size))
    assert private(value) == pickle.dumps(value, 4)


@pytest.mark.parametrize("size", [65535, 65536, 70000, 200_000])
def test_large_strings_and_many_frames_are_framed_as_in_c(size: int) -> None:
    for value in (b"x" * size, "y" * size, [b"x" * size, "tail"], ["z" * 1000 for _ in range(size // 500)]):
        assert private(value) == pickle.dumps(value, 4)


def test_recursive_and_slotted_objects_are_written_as_in_c() -> None:
    loop: list[Any] = []
    loop.append((loop, {"loop": loop}))
    slotted = Slotted()
    slotted.a = loop
    assert private([loop, slotted]) == pickle.dumps([loop, slotted], 4)


def test_a_foreach_frame_is_stored_under_main_without_a_name_there() -> None:
    before = set(vars(sys.modules["__main__"]))
    data = dumps([ForeachFrame("body", "items", 3, 1, "text")])
    operations = [(op.name, arg) for op, arg, _ in pickletools.genops(data)]
    assert ("SHORT_BINUNICODE", "__main__") in operations
    assert ("SHORT_BINUNICODE", "ForeachFrame") in operations
    assert b"asyncstore" not in data
    assert set(vars(sys.modules["__main__"])) == before


def test_a_framework_value_deep_in_a_graph_and_its_class_itself_are_stored_under_metaflows_names() -> None:
    graph = {"a": [(1, MetaflowExceptionWrapper(ValueError("x")))], "b": Point(3), "f": IncludedFile({"url": "u"})}
    data = dumps(graph)
    assert b"asyncstore" not in data
    assert b"metaflow.exception" in data
    assert b"metaflow.includefile" in data
    again = loads(data, trust=TrustPolicy.parse("full"), name="graph")
    assert again["a"] == graph["a"]
    assert again["f"] == graph["f"]
    assert b"metaflow.includefile" in dumps([IncludedFile({}), IncludedFile])


def test_the_classes_also_travel_by_ordinary_pickle() -> None:
    for value in (ForeachFrame("a"), MetaflowExceptionWrapper(ValueError("x")), IncludedFile({"url": "u"})):
        assert pickle.loads(pickle.dumps(value)) == value


def test_reducers_registered_with_copyreg_are_used() -> None:
    class Local:
        pass

    reduce: Any = lambda _value: (complex, (1.0, 2.0))  # noqa: E731
    copyreg.pickle(Local, reduce)
    try:
        assert loads(dumps([Local()]), trust=METAFLOW, name="x") == [1 + 2j]
        assert loads(dumps([Local(), ForeachFrame()]), trust=METAFLOW, name="x") == [1 + 2j, ForeachFrame()]
    finally:
        del copyreg.dispatch_table[Local]


def test_an_exception_is_wrapped_with_its_type_text_and_trace() -> None:
    try:
        raise ZeroDivisionError("no")
    except ZeroDivisionError as error:
        wrapped = MetaflowExceptionWrapper(error)
    assert (wrapped.type, wrapped.exception) == ("builtins.ZeroDivisionError", "no")
    assert "test_an_exception_is_wrapped" in str(wrapped)
    assert str(MetaflowExceptionWrapper(KeyError("k"))) == "[no stacktrace]\nbuiltins.KeyError: 'k'"


def test_recorded_types_are_spelled_as_metaflow_spells_them() -> None:
    assert type_text(3) == "<class 'int'>"
    assert type_text(IncludedFile({})) == INCLUDED_FILE_TYPE
    assert type_text(ForeachFrame()) == "<class '__main__.ForeachFrame'>"
    assert type_text(MetaflowExceptionWrapper()) == "<class 'metaflow.exception.MetaflowExceptionWrapper'>"


def test_every_golden_artifact_gets_its_own_key_again_when_it_is_loaded_and_pickled(tmp_path: Path) -> None:
    root = extract(tmp_path)
    for key, blob in expected()["blobs"].items():
        stored = (root / blob["stored_file"]).read_bytes()
        value = loads(gzip.decompress(stored), trust=METAFLOW, name=key)
        assert hashlib.sha1(dumps(value)).hexdigest() == key, blob
