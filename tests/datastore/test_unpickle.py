"""A pickle runs nothing that the policy does not name, and changes nothing that it names."""

from __future__ import annotations

import codecs
import collections
import contextlib
import copyreg
import datetime as dt
import decimal
import os
import pathlib
import pickle
import pickletools
import re
import subprocess
import sys
import textwrap
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncstore.datastore import trust as trust_module
from asyncstore.datastore.scan import SuspectPickleError, scan
from asyncstore.datastore.trust import PRESETS, TrustPolicy
from asyncstore.datastore.unpickle import loads
from asyncstore.datastore.values import ForeachFrame
from asyncstore.errors import ArtifactError, ConfigError, UntrustedArtifactError

METAFLOW = TrustPolicy.parse("metaflow")
FULL = TrustPolicy.parse("full")

INERT = [
    {1, 2},
    frozenset({3}),
    bytearray(b"m"),
    b"",
    b"\xff\x00",
    1 + 2j,
    range(0, 10, 3),
    slice(1, 2),
    collections.OrderedDict(a=1),
    collections.Counter("aab"),
    collections.deque([1], maxlen=3),
    collections.ChainMap({1: 2}),
    collections.UserDict(a=1),
    collections.UserList([1]),
    collections.UserString("u"),
    collections.defaultdict(collections.Counter, {1: collections.Counter("a")}),
    [collections.Counter, collections.OrderedDict],
    dt.datetime(2024, 2, 29, 12, tzinfo=dt.timezone(dt.timedelta(hours=2))),
    dt.date(2000, 1, 1),
    dt.time(1, 2),
    dt.timedelta(3),
    decimal.Decimal("12.50"),
    uuid.UUID(int=5),
    pathlib.PurePosixPath("a/b"),
    pathlib.PureWindowsPath("c:/d"),
]


@pytest.mark.parametrize("value", INERT, ids=repr)
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_inert_values_of_every_protocol_load_with_the_default_policy(value: Any, protocol: int) -> None:
    loaded = loads(pickle.dumps(value, protocol), trust=METAFLOW, name="x")
    assert type(loaded) is type(value)
    assert loaded == value


class Evil:
    """Leaves a trace if anything of it runs."""

    ran = False

    def __init__(self, *args: Any) -> None:
        Evil.ran = True

    def __reduce__(self) -> Any:
        return Evil, ("argument",)


class StateEvil:
    def __setstate__(self, state: Any) -> None:
        Evil.ran = True

    def __getstate__(self) -> Any:
        return {"a": 1}


class NewEvil:
    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        Evil.ran = True
        return super().__new__(cls)

    def __getnewargs_ex__(self) -> Any:
        return (1,), {"a": 2}


@pytest.fixture(autouse=True)
def nothing_ran() -> Any:
    Evil.ran = False
    yield
    assert not Evil.ran


HERE = __name__.encode()


def crafted() -> dict[str, bytes]:
    system = b"\x8c\x05posix\x8c\x06system\x93"
    made = {f"a reduced object, protocol {p}": pickle.dumps(Evil(), p) for p in range(6)}
    made |= {f"__setstate__, protocol {p}": pickle.dumps(StateEvil(), p) for p in range(6)}
    made |= {f"__new__ with keywords, protocol {p}": pickle.dumps(NewEvil(), p) for p in range(2, 6)}
    made |= {
        "GLOBAL": b"cposix\nsystem\n(S'true'\ntR.",
        "STACK_GLOBAL": b"\x80\x04" + system + b"\x8c\x04true\x85R.",
        "STACK_GLOBAL through the memo": b"\x80\x04\x8c\x05posix\x94\x8c\x06system\x94h\x00h\x01\x93\x8c\x04true\x85R.",
        "INST": b"(S'true'\niposix\nsystem\n.",
        "OBJ": b"(cposix\nsystem\nS'true'\no.",
        "NEWOBJ": b"\x80\x02c" + HERE + b"\nNewEvil\n)\x81.",
        "NEWOBJ_EX": b"\x80\x04\x8c" + bytes([len(HERE)]) + HERE + b"\x8c\x07NewEvil\x93)}\x92.",
        "a dotted name by GLOBAL": b"ccollections\nCounter.fromkeys\n((tR.",
        "a dotted name by STACK_GLOBAL": b"\x80\x04\x8c\x05uuid.\x8c\x02os\x93.",
        "a dotted name through an admitted class": b"\x80\x04\x8c\x04uuid\x8c\x08UUID.hex\x93.",
        "a dotted module": b"cos.path\nos\n.",
        "an empty name": b"\x80\x04\x8c\x08builtins\x8c\x00\x93.",
        "eval": b"cbuiltins\neval\n(S'1'\ntR.",
        "getattr": b"cbuiltins\ngetattr\n(cbuiltins\nset\nS'__class__'\ntR.",
        "__import__": b"c__builtin__\n__import__\n(S'os'\ntR.",
        "exec of Python 2": b"c__builtin__\napply\n(tR.",
        "copyreg's reconstructor": b"ccopyreg\n_reconstructor\n(cbuiltins\nset\ncbuiltins\nobject\nNtR.",
        "copyreg's newobj": b"ccopyreg\n__newobj__\n(cbuiltins\nset\ntR.",
        "functools.partial": b"cfunctools\npartial\n(cposix\nsystem\ntR.",
        "operator.attrgetter": b"coperator\nattrgetter\n(S'a'\ntR.",
        "a module that is not imported yet": b"cantigravity\nfly\n(tR.",
        "our own package": b"casyncstore.datastore.unpickle\nloads\n(tR.",
        "__main__": b"c__main__\nanything\n(tR.",
        "code objects": b"ctypes\nCodeType\n(tR.",
        "a real path": pickle.dumps(Path("x"), 4),
    }
    return made


@pytest.mark.parametrize("name", sorted(crafted()))
def test_a_pickle_that_names_anything_else_is_refused_and_nothing_of_it_ran(name: str) -> None:
    Evil.ran = False  # making the pickles ran it
    data = crafted()[name]
    Evil.ran = False
    with pytest.raises(UntrustedArtifactError) as caught:
        loads(data, trust=METAFLOW, name="my_artifact")
    assert caught.value.name == "my_artifact"
    assert "my_artifact" in str(caught.value)
    assert "antigravity" not in sys.modules


def test_a_refusal_names_the_global_and_the_option_that_admits_it() -> None:
    with pytest.raises(UntrustedArtifactError, match=r"posix\.system.*trust=\('metaflow', 'posix:system'\)") as caught:
        loads(b"cposix\nsystem\n.", trust=METAFLOW, name="x")
    assert caught.value.where == "posix.system"
    with pytest.raises(UntrustedArtifactError, match=r"trust=\('metaflow', 'numpy'\)"):
        loads(b"cnumpy\nndarray\n.", trust=METAFLOW, name="x")
    with pytest.raises(UntrustedArtifactError, match=r"trust='full' only"):
        loads(b"cbuiltins\nset.add\n.", trust=METAFLOW, name="x")


def test_the_advice_of_a_refusal_works() -> None:
    data = pickle.dumps(Evil.__mro__[0], 4)
    policy = TrustPolicy.parse(("metaflow", f"{__name__}:Evil"))
    assert loads(data, trust=policy, name="x") is Evil


@pytest.mark.parametrize(
    "data",
    {
        "persistent id": b"Pname\n.",
        "binary persistent id": b"\x80\x02K\x01Q.",
        "an unknown extension code": b"\x80\x02\x82\xf0.",
        "an out-of-band buffer": b"\x80\x05\x97.",
        "truncated": b"\x80\x04\x95",
        "empty": b"",
        "not a pickle": b"hello",
        "rot13": b"c_codecs\nencode\n(VX\nVrot13\ntR.",
        "zlib": b"c_codecs\nencode\n(VX\nVzlib\ntR.",
        "a class instead of a function": b"cbuiltins\nset\n(K\x01tR.",
    }.items(),
    ids=lambda item: item[0],
)
def test_other_ways_out_are_errors_that_name_the_artifact(data: tuple[str, bytes]) -> None:
    with pytest.raises(ArtifactError, match="'x'"):
        loads(data[1], trust=METAFLOW, name="x")


CHANGES = {
    "BUILD of slots on a class": b"cuuid\nUUID\nN}\x8c\x01xK\x01s\x86b.",
    "BUILD of slots on a class of ours": b"\x80\x04\x8c\x08__main__\x8c\x0cForeachFrame\x93N}\x8c\x05stepsK\x01s\x86b.",
    "BUILD through the memo": b"\x80\x04\x8c\x0bcollections\x8c\x07Counter\x93\x940h\x00N}\x8c\x01xK\x01s\x86b.",
    "BUILD after DUP": b"ccollections\nCounter\n2N}\x8c\x01xK\x01s\x86b.",
    "BUILD after PUT and GET": b"ccollections\nCounter\np7\n0g7\nN}\x8c\x01xK\x01s\x86b.",
    "BUILD after a popped mark": b"ccollections\nCounter\n(0N}\x8c\x01xK\x01s\x86b.",
    "BUILD on a function": b"c_codecs\nencode\nN}\x8c\x0c__defaults__K\x01\x85s\x86b.",
    "SETITEM on a class": b"ccollections\nCounter\nK\x01K\x02s.",
    "APPEND on a class": b"ccollections\nUserList\nK\x01a.",
    "ADDITEMS on a class": b"ccollections\nUserList\n(K\x01\x90.",
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_pickle_cannot_change_an_admitted_class_or_function(name: str) -> None:
    with pytest.raises(UntrustedArtifactError, match="changes a class"):
        loads(CHANGES[name], trust=METAFLOW, name="x")
    assert not hasattr(uuid.UUID, "x")
    assert not hasattr(collections.Counter, "x")
    assert not hasattr(ForeachFrame, "steps")


def test_such_a_change_does_work_without_the_policy() -> None:
    class Victim:
        pass

    globals()["Victim"] = Victim
    try:
        data = b"c" + HERE + b"\nVictim\nN}\x8c\x01xK\x01s\x86b."
        loads(data, trust=FULL, name="x")
        assert vars(Victim)["x"] == 1
    finally:
        del globals()["Victim"]


def test_an_extension_code_that_was_used_before_is_refused() -> None:
    copyreg.add_extension(__name__, "Evil", 240)
    try:
        data = b"\x80\x02\x82\xf0)R."
        assert pickle.loads(b"\x80\x02\x82\xf0.") is Evil  # now it is in copyreg's cache
        with pytest.raises(UntrustedArtifactError, match="extension"):
            loads(data, trust=METAFLOW, name="x")
        assert loads(pickle.dumps({1}, 4), trust=METAFLOW, name="x") == {1}
    finally:
        copyreg.remove_extension(__name__, "Evil", 240)
        copyreg.clear_extension_cache()


def test_full_trust_loads_anything_and_still_knows_metaflows_classes() -> None:
    assert loads(pickle.dumps(os.path.join, 4), trust=FULL, name="x") is os.path.join
    assert loads(b"c__builtin__\nlong\n.", trust=FULL, name="x") is int
    frame = b"\x80\x04\x8c\x08__main__\x8c\x0cForeachFrame\x93\x8c\x01a\x85\x81."
    assert loads(frame, trust=FULL, name="x") == ForeachFrame("a")
    assert loads(frame, trust=METAFLOW, name="x") == ForeachFrame("a")


def test_an_error_in_a_users_class_names_the_artifact_and_keeps_its_cause() -> None:
    with pytest.raises(ArtifactError, match="'x' cannot be unpickled") as caught:
        loads(b"cbuiltins\nint\n(S'no'\ntR.", trust=FULL, name="x")
    assert isinstance(caught.value.__cause__, ValueError)


@given(st.binary(max_size=200))
@settings(max_examples=500, deadline=None)
def test_any_bytes_give_a_value_or_an_artifact_error(data: bytes) -> None:
    with contextlib.suppress(ArtifactError):
        loads(data, trust=METAFLOW, name="x")


opcodes = st.sampled_from([op.code.encode("latin1") for op in pickletools.opcodes])
globals_ = st.sampled_from([b"cuuid\nUUID\n", b"cposix\nsystem\n", b"ccollections\nCounter\n", b"c_codecs\nencode\n",
                            b"\x8c\x05posix\x8c\x06system\x93", b"\x8c\x04true", b"K\x01", b"}", b"N", b"(", b"\x94",
                            b"h\x00", b"p1\n", b"g1\n", b"\x86", b"\x85", b"R", b"b", b"\x81"])  # fmt: skip


@given(st.lists(opcodes | globals_, max_size=25))
@settings(max_examples=1000, deadline=None)
def test_no_sequence_of_opcodes_runs_or_changes_a_global(parts: list[bytes]) -> None:
    before = {kind: dict(vars(kind)) for kind in (uuid.UUID, collections.Counter)}
    with contextlib.suppress(ArtifactError):
        loads(b"\x80\x04" + b"".join(parts) + b".", trust=METAFLOW, name="x")
    for kind, attributes in before.items():
        assert dict(vars(kind)) == attributes


@given(st.recursive(st.integers() | st.text() | st.binary() | st.floats(allow_nan=False) | st.none() | st.booleans(),
                    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner)
                    | st.builds(collections.Counter, st.lists(st.text())), max_leaves=20),
       st.integers(0, 5))  # fmt: skip
@settings(max_examples=200, deadline=None)
def test_what_a_pickler_writes_can_be_followed(value: Any, protocol: int) -> None:
    scan(pickle.dumps(value, protocol))


@pytest.mark.parametrize("data", [b"", b"\x80\x04", b"(", b"0.", b"h\x00.", b"\x8c\xffx.", b"b.", b"gx\n."])
def test_what_cannot_be_followed_is_suspect(data: bytes) -> None:
    with pytest.raises(SuspectPickleError):
        scan(data)


def test_presets_admit_no_function_of_builtins_and_no_dotted_name() -> None:
    for table in PRESETS.values():
        for module, name in table:
            assert "." not in name
            if module in {"builtins", "__builtin__"} and name != "xrange":
                assert isinstance(getattr(__import__("builtins"), name), type)


def test_an_unknown_preset_is_a_config_error_that_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"'metaflow', 'numpy', 'pandas', 'full'"):
        TrustPolicy.parse("everything")
    with pytest.raises(ConfigError):
        TrustPolicy.parse("os:path.join")


def test_numpy_arrays_load_with_the_preset_only() -> None:
    for array in (np.arange(6.0).reshape(2, 3), np.array(["a", None], dtype=object), np.float32(2)):
        data = pickle.dumps(array, 4)
        with pytest.raises(UntrustedArtifactError):
            loads(data, trust=METAFLOW, name="x")
        loaded = loads(data, trust=TrustPolicy.parse(("metaflow", "numpy")), name="x")
        assert np.array_equal(loaded, array)


def test_no_other_module_of_the_package_unpickles() -> None:
    # The shipped suites send handles of their own making through pickle.
    package = Path(trust_module.__file__).parents[1]
    calls = re.compile(r"\b(pickle|marshal|shelve|cloudpickle)\.(load|open)|\bUnpickler\(")
    offenders = [
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if path.name != "unpickle.py"
        and "testing" not in path.relative_to(package).parts
        and calls.search(path.read_text(encoding="utf-8"))
    ]
    assert offenders == []


def test_latin1_is_the_only_codec() -> None:
    assert loads(b"c_codecs\nencode\n(V\\u00ff\nVlatin-1\ntR.", trust=METAFLOW, name="x") == b"\xff"
    assert codecs.lookup("latin-1").name == "iso8859-1"


def test_the_framework_classes_load_where_metaflow_is_not_importable() -> None:
    program = """
        import sys
        sys.modules["metaflow"] = None
        from asyncstore.datastore.pickling import dumps
        from asyncstore.datastore.trust import TrustPolicy
        from asyncstore.datastore.unpickle import loads
        from asyncstore.datastore.values import *
        value = [ForeachFrame("a"), MetaflowExceptionWrapper(ValueError("x")), IncludedFile({"url": "u"})]
        for trust in ("metaflow", "full"):
            assert loads(dumps(value), trust=TrustPolicy.parse(trust), name="x") == value
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True, timeout=60)
