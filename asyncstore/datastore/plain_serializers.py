"""Serializers without pickle, to be asked for: ``FlowDataStore(..., serializers=[JsonSerializer(), …])``.

What they write can be loaded from anybody without running code. Metaflow answers these encodings with an error that
names asyncstore.
"""

from __future__ import annotations

import io
import json
import math
import sys
from typing import Any, cast

from asyncstore.datastore.serializers import ArtifactInfo, Serialized
from asyncstore.types import Buffer

_MAX_DEPTH = 100
_MAX_INT_BITS = 10_000  # Python refuses to print longer ones by default


class JsonSerializer:
    """None, bool, int, finite float, str, and lists and dicts (with str keys) of these, exactly.

    Subclasses, tuples and cycles are left to others. A list that is referred to twice comes back as two lists.
    """

    type = "asyncstore-json"
    priority = 500
    source = "asyncstore"
    encoding = "asyncstore-json-v1"

    def can_serialize(self, value: Any) -> bool:
        return _is_json(value, _MAX_DEPTH)

    def can_deserialize(self, info: ArtifactInfo) -> bool:
        return info.encoding == self.encoding

    def serialize(self, value: Any) -> Serialized:
        text = json.dumps(value, separators=(",", ":"), allow_nan=False)
        return Serialized(text.encode("ascii"), self.encoding)

    def deserialize(self, data: Buffer, info: ArtifactInfo, *, name: str) -> Any:
        return json.loads(bytes(data))


def _is_json(value: Any, depth: int) -> bool:
    kind = type(value)
    if value is None or kind in {bool, str}:
        return True
    if kind is int:
        return int(value.bit_length()) <= _MAX_INT_BITS
    if kind is float:
        return math.isfinite(value)
    if depth == 0:
        return False
    if kind is list:
        return all(_is_json(item, depth - 1) for item in value)
    if kind is dict:
        return all(type(key) is str and _is_json(item, depth - 1) for key, item in value.items())
    return False


class BytesSerializer:
    """``bytes`` as they are."""

    type = "asyncstore-bytes"
    priority = 500
    source = "asyncstore"
    encoding = "asyncstore-bytes-v1"

    def can_serialize(self, value: Any) -> bool:
        return type(value) is bytes

    def can_deserialize(self, info: ArtifactInfo) -> bool:
        return info.encoding == self.encoding

    def serialize(self, value: Any) -> Serialized:
        return Serialized(value, self.encoding)

    def deserialize(self, data: Buffer, info: ArtifactInfo, *, name: str) -> Any:
        return bytes(data)


class NumpySerializer:
    """``numpy.ndarray`` without Python objects inside, in numpy's own ``.npy`` form."""

    type = "asyncstore-numpy"
    priority = 500
    source = "asyncstore"
    encoding = "asyncstore-npy-v1"

    def can_serialize(self, value: Any) -> bool:
        numpy: Any = sys.modules.get("numpy")  # who has an array has imported it
        if numpy is None or type(value) is not numpy.ndarray:
            return False
        return bool(not value.dtype.hasobject and value.dtype.metadata is None)

    def can_deserialize(self, info: ArtifactInfo) -> bool:
        return info.encoding == self.encoding

    def serialize(self, value: Any) -> Serialized:
        from numpy.lib import format as npy

        buffer = io.BytesIO()
        npy.write_array(buffer, value, allow_pickle=False)
        return Serialized(buffer.getvalue(), self.encoding)

    def deserialize(self, data: Buffer, info: ArtifactInfo, *, name: str) -> Any:
        from numpy.lib import format as npy

        return npy.read_array(io.BytesIO(data), allow_pickle=False)


class ArrowSerializer:
    """``pyarrow.Table`` and ``pyarrow.RecordBatch`` as an Arrow IPC stream."""

    type = "asyncstore-arrow"
    priority = 500
    source = "asyncstore"
    encodings = ("asyncstore-arrow-table-v1", "asyncstore-arrow-batch-v1")

    def can_serialize(self, value: Any) -> bool:
        arrow: Any = sys.modules.get("pyarrow")
        return arrow is not None and type(value) in {arrow.Table, arrow.RecordBatch}

    def can_deserialize(self, info: ArtifactInfo) -> bool:
        return info.encoding in self.encodings

    def serialize(self, value: Any) -> Serialized:
        import pyarrow as pa

        table, batch = self.encodings
        sink: Any = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, value.schema) as writer:
            writer.write(value)
        stream = memoryview(cast("Buffer", sink.getvalue()))
        return Serialized(stream, table if isinstance(value, pa.Table) else batch)

    def deserialize(self, data: Buffer, info: ArtifactInfo, *, name: str) -> Any:
        import pyarrow as pa

        source: Any = pa.py_buffer(data)
        with pa.ipc.open_stream(source) as reader:
            if info.encoding == self.encodings[0]:
                return reader.read_all()
            return reader.read_next_batch()
