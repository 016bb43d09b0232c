"""Which serializer writes and reads what, and what is recorded of it."""

from __future__ import annotations

import math
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncstore.datastore.metaflow_serializers import MetaflowSerializer
from asyncstore.datastore.plain_serializers import ArrowSerializer, BytesSerializer, JsonSerializer, NumpySerializer
from asyncstore.datastore.serializers import (
    ArtifactInfo,
    ArtifactSerializer,
    PickleSerializer,
    Serialized,
    SerializerRegistry,
)
from asyncstore.datastore.values import IncludedFile
from asyncstore.errors import ArtifactError, ConfigError, UnpicklableArtifactError, UntrustedArtifactError
from asyncstore.types import Buffer

PLAIN: list[ArtifactSerializer] = [JsonSerializer(), BytesSerializer(), NumpySerializer(), ArrowSerializer()]


class Upper:
    """A serializer of text, as an extension would bring it."""

    source = "their-package"

    def __init__(self, kind: str = "upper", priority: int = 100, encoding: str = "upper-v1") -> None:
        self.type = kind
        self.priority = priority
        self.encoding = encoding

    def can_serialize(self, value: Any) -> bool:
        return isinstance(value, str)

    def can_deserialize(self, info: ArtifactInfo) -> bool:
        return info.encoding == self.encoding

    def serialize(self, value: Any) -> Serialized:
        return Serialized(value.upper().encode(), self.encoding, {"length": len(value)})

    def deserialize(self, data: Buffer, info: ArtifactInfo, *, name: str) -> Any:
        return bytes(data).decode() + str(info.serializer_info.get("length"))


class Broken(Upper):
    def can_serialize(self, value: Any) -> bool:
        raise RuntimeError("cannot say")

    def can_deserialize(self, info: ArtifactInfo) -> bool:
        raise RuntimeError("cannot say")


def round_trip(registry: SerializerRegistry, value: Any) -> tuple[Any, ArtifactInfo]:
    made, info = registry.serialize("x", value)
    return registry.deserialize("x", made.data, info), info


def test_any_value_is_pickled_by_default_and_recorded_as_metaflow_records_it() -> None:
    value, info = round_trip(SerializerRegistry(), {"a": (1, 2)})
    assert value == {"a": (1, 2)}
    assert (info.type, info.encoding, info.serializer_info) == ("<class 'dict'>", "pickle-v4", {"source": "metaflow"})
    assert info.size == len(PickleSerializer().serialize({"a": (1, 2)}).data)


@pytest.mark.parametrize("encoding", ["pickle-v2", "pickle-v4", "gzip+pickle-v2", "gzip+pickle-v4"])
def test_every_encoding_that_metaflow_wrote_is_read(encoding: str) -> None:
    data = SerializerRegistry().serialize("x", [1])[0].data
    assert SerializerRegistry().deserialize("x", data, ArtifactInfo(encoding=encoding)) == [1]


def test_an_absent_encoding_is_an_old_pickle() -> None:
    data = SerializerRegistry().serialize("x", [1])[0].data
    assert SerializerRegistry().deserialize("x", data, ArtifactInfo()) == [1]


def test_lower_priority_numbers_come_first_and_of_equals_the_latest_registered() -> None:
    first, second, early = Upper("first"), Upper("second"), Upper("early", 10)
    registry = SerializerRegistry([first, second, early])
    assert [serializer.type for serializer in registry.ordered] == ["early", "second", "first", "pickle"]


def test_what_a_serializer_records_is_given_back_to_it_and_the_source_is_added() -> None:
    value, info = round_trip(SerializerRegistry([Upper()]), "abc")
    assert value == "ABC3"
    assert info.serializer_info == {"source": "their-package", "length": 3}
    assert info.size == 3


def test_a_source_that_the_serializer_set_itself_stays() -> None:
    class Own(Upper):
        def serialize(self, value: Any) -> Serialized:
            return Serialized(b"", "own", {"source": "mine"})

    assert SerializerRegistry([Own()]).serialize("x", "a")[1].serializer_info == {"source": "mine"}


def test_a_predicate_that_raises_is_passed_over_with_a_warning_and_counted() -> None:
    registry = SerializerRegistry([Broken("broken", 1)])
    with pytest.warns(RuntimeWarning, match=r"'broken'.*cannot say"):
        made, info = registry.serialize("x", "text")
    assert info.encoding == "pickle-v4"
    with pytest.warns(RuntimeWarning, match="'broken'"):
        assert registry.deserialize("x", made.data, info) == "text"
    assert registry.faults == {"broken": 2}


def test_two_serializers_of_one_type_are_a_config_error() -> None:
    with pytest.raises(ConfigError, match="'upper'"):
        SerializerRegistry([Upper(), Upper()])


def test_an_unknown_encoding_is_an_error_that_names_artifact_encoding_and_source() -> None:
    info = ArtifactInfo(1, None, "tensor-v3", {"source": "their-package"})
    with pytest.raises(ArtifactError, match=r"'tensor-v3' of artifact 'weights'.*install 'their-package'") as caught:
        SerializerRegistry().deserialize("weights", b"x", info)
    assert caught.value.name == "weights"


def test_a_type_error_while_pickling_is_unpicklable_and_anything_else_an_artifact_error() -> None:
    with pytest.raises(UnpicklableArtifactError, match="'lock'") as caught:
        SerializerRegistry().serialize("lock", __import__("threading").Lock())
    assert caught.value.name == "lock"
    with pytest.raises(ArtifactError, match=r"'fn'.*serializer 'pickle'") as other:
        SerializerRegistry().serialize("fn", lambda: None)
    assert not isinstance(other.value, UnpicklableArtifactError)


def test_a_type_error_of_another_serializer_is_not_called_unpicklable() -> None:
    class Failing(Upper):
        def serialize(self, value: Any) -> Serialized:
            raise TypeError("no")

        def deserialize(self, data: Buffer, info: ArtifactInfo, *, name: str) -> Any:
            raise TypeError("no")

    registry = SerializerRegistry([Failing()])
    with pytest.raises(ArtifactError, match="serializer 'upper'") as caught:
        registry.serialize("x", "a")
    assert not isinstance(caught.value, UnpicklableArtifactError)
    with pytest.raises(ArtifactError, match="'x' cannot be loaded by serializer 'upper'"):
        registry.deserialize("x", b"", ArtifactInfo(encoding="upper-v1"))


def test_the_trust_policy_of_the_registry_holds_for_its_pickles() -> None:
    made, info = SerializerRegistry().serialize("x", math.floor)
    with pytest.raises(UntrustedArtifactError):
        SerializerRegistry().deserialize("x", made.data, info)
    assert SerializerRegistry(trust="full").deserialize("x", made.data, info) is math.floor


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(json_values)
def test_json_values_come_back_equal_and_of_the_same_types(value: Any) -> None:
    loaded, info = round_trip(SerializerRegistry(PLAIN), value)
    assert loaded == value
    assert repr(loaded) == repr(value)
    assert info.encoding == "asyncstore-json-v1"


cycle: list[Any] = []
cycle.append(cycle)


class Text(str):
    __slots__ = ()


@pytest.mark.parametrize(
    "value",
    [(1,), {1: 2}, [(1,)], math.nan, math.inf, {1}, bytearray(b"x"), Text("x"), 10**5000, cycle, IncludedFile({})],
    ids=lambda value: type(value).__name__,
)
def test_what_json_would_change_is_left_to_pickle(value: Any) -> None:
    assert SerializerRegistry(PLAIN).serialize("x", value)[1].encoding == "pickle-v4"


@pytest.mark.parametrize("value", [b"", b"abc", bytes(range(256))])
def test_bytes_are_stored_as_they_are(value: bytes) -> None:
    made, info = SerializerRegistry(PLAIN).serialize("x", value)
    assert (bytes(made.data), info.encoding) == (value, "asyncstore-bytes-v1")
    assert SerializerRegistry(PLAIN).deserialize("x", made.data, info) == value


ARRAYS = [
    np.arange(6.0).reshape(2, 3),
    np.asfortranarray(np.eye(3)),
    np.array([], dtype="i4"),
    np.array(3),
    np.array(["a", "bc"]),
    np.zeros(2, dtype=[("a", "i4"), ("b", "f8")]),
]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: str(array.dtype))
def test_arrays_are_stored_in_numpys_own_form(array: Any) -> None:
    loaded, info = round_trip(SerializerRegistry(PLAIN), array)
    assert info.encoding == "asyncstore-npy-v1"
    assert loaded.dtype == array.dtype
    assert np.array_equal(loaded, array)
    assert loaded.flags.writeable


def test_arrays_of_objects_and_subclasses_are_left_to_pickle() -> None:
    for value in (np.array([None, "a"], dtype=object), np.ma.array([1]), np.float64(1)):
        assert SerializerRegistry(PLAIN).serialize("x", value)[1].encoding == "pickle-v4"


def test_an_array_file_with_a_pickle_inside_is_refused() -> None:
    import io

    buffer = io.BytesIO()
    np.save(buffer, np.array([None], dtype=object), allow_pickle=True)
    with pytest.raises(ArtifactError, match="'x'"):
        SerializerRegistry(PLAIN).deserialize("x", buffer.getvalue(), ArtifactInfo(encoding="asyncstore-npy-v1"))


def test_arrow_tables_and_batches_come_back_as_what_they_were() -> None:
    table = pa.table({"a": [1, None, 3], "b": ["x", "y", None]})
    loaded, info = round_trip(SerializerRegistry(PLAIN), table)
    assert loaded.equals(table)
    assert info.encoding == "asyncstore-arrow-table-v1"
    for batch in (table.to_batches()[0], table.to_batches()[0].slice(0, 0)):
        loaded, info = round_trip(SerializerRegistry(PLAIN), batch)
        assert loaded.equals(batch)
        assert info.encoding == "asyncstore-arrow-batch-v1"


class _Blob(NamedTuple):
    value: bytes
    is_reference: bool = False


class _Made(NamedTuple):
    obj_type: str
    size: int
    encoding: str
    serializer_info: dict[str, Any]


class TheirSerializer:
    """Shaped as a subclass of Metaflow's ArtifactSerializer."""

    TYPE = "theirs"
    PRIORITY = 50
    blobs: ClassVar[list[_Blob]] = [_Blob(b"abc")]

    @classmethod
    def can_serialize(cls, obj: Any) -> bool:
        return isinstance(obj, str)

    @classmethod
    def can_deserialize(cls, metadata: Any) -> bool:
        return bool(metadata.encoding == "theirs-v1" and metadata.serializer_info.get("k") == 1)

    @classmethod
    def serialize(cls, obj: Any, format: str = "storage") -> Any:  # noqa: A002
        return cls.blobs, _Made(str(type(obj)), 3, "theirs-v1", {"k": 1})

    @classmethod
    def deserialize(cls, data: list[bytes], metadata: Any = None, format: str = "storage") -> Any:  # noqa: A002
        return data[0].decode() + metadata.obj_type


def test_a_serializer_class_made_for_metaflow_serves_here() -> None:
    value, info = round_trip(SerializerRegistry([MetaflowSerializer(TheirSerializer)]), "text")
    assert value == "abc<class 'str'>"
    assert info.serializer_info == {"source": "tests", "k": 1}


@pytest.mark.parametrize("blobs", [[], [_Blob(b"a"), _Blob(b"b")], [_Blob(b"a", is_reference=True)]])
def test_exactly_one_new_blob_per_artifact_is_accepted(blobs: list[_Blob], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TheirSerializer, "blobs", blobs)
    with pytest.raises(ArtifactError, match=r"'x'.*one new blob per artifact"):
        SerializerRegistry([MetaflowSerializer(TheirSerializer)]).serialize("x", "text")
