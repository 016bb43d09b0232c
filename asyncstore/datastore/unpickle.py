"""Loads stored pickles under a trust policy; the only place of the package that unpickles.

A global that the policy does not admit ends the load before it is imported or called. What is admitted cannot be
changed by the pickle either: see `asyncstore.datastore.scan`.
"""

from __future__ import annotations

import codecs
import copyreg
import io
import pickle  # every global goes through `find_class` below
from collections import UserDict, UserList, UserString
from collections.abc import Mapping
from types import BuiltinFunctionType, MappingProxyType
from typing import Any

from asyncstore.datastore.scan import SuspectPickleError, scan
from asyncstore.datastore.trust import TrustPolicy
from asyncstore.datastore.values import STORED_NAMES
from asyncstore.errors import ArtifactError, UntrustedArtifactError
from asyncstore.types import Buffer

_IMMUTABLE_TYPE = 1 << 8  # CPython's Py_TPFLAGS_IMMUTABLETYPE


def _encode(text: str, encoding: str = "latin1") -> bytes:
    """Stand in for ``_codecs.encode``, by which protocol 2 writes bytes, without the other codecs."""
    if codecs.lookup(encoding).name != "iso8859-1":
        raise ValueError(f"a pickle may encode as latin1 only, not as {encoding!r}")
    return text.encode("latin1")


# Globals that are never imported: Metaflow's classes, and the names of Python 2 that protocol 2 writes.
_OURS: Mapping[tuple[str, str], Any] = MappingProxyType(
    {
        **{name: kind for kind, name in STORED_NAMES.items()},
        ("_codecs", "encode"): _encode,
        ("__builtin__", "xrange"): range,
        ("UserDict", "IterableUserDict"): UserDict,
        ("UserList", "UserList"): UserList,
        ("UserString", "UserString"): UserString,
        **{("__builtin__", kind.__name__): kind for kind in (set, frozenset, bytearray, bytes, complex, slice)},
    }
)


def loads(data: Buffer, *, trust: TrustPolicy, name: str) -> Any:
    """Return the value of a pickle; ``name`` is the artifact that errors speak of.

    Raises `UntrustedArtifactError` for a global that ``trust`` does not admit, before that global is imported, and
    `ArtifactError` if the pickle is damaged or its classes cannot be loaded.
    """
    unpickler = _Unpickler(data, trust, name)
    try:
        if not trust.full and _extensions_registered():
            unpickler.scan()
        return unpickler.load()
    except UntrustedArtifactError:
        raise
    except Exception as error:  # users' classes and damaged pickles raise anything
        raise ArtifactError(
            f"artifact {name!r} cannot be unpickled: {type(error).__name__}: {error}", name=name, operation="load"
        ) from error


class _Unpickler(pickle.Unpickler):
    def __init__(self, data: Buffer, trust: TrustPolicy, name: str) -> None:
        super().__init__(io.BytesIO(data))
        self._data = data
        self._trust = trust
        self._name = name
        self._scanned = False

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        ours = _OURS.get((module_name, global_name))
        if self._trust.full:
            # Python 2's names are left to the library, which knows all of them.
            return ours if ours in STORED_NAMES else super().find_class(module_name, global_name)
        if not self._trust.admits(module_name, global_name):
            raise UntrustedArtifactError(
                f"artifact {self._name!r} names {module_name}.{global_name}, which is not trusted; nothing of it ran. "
                f"If you trust its author, {self._trust.advice(module_name, global_name)}",
                name=self._name,
                operation="load",
                where=f"{module_name}.{global_name}",
            )
        found = super().find_class(module_name, global_name) if ours is None else ours
        if not _is_immutable(found):
            self.scan()
        return found

    def scan(self) -> None:
        """Refuse a pickle that would change what it names; once per load."""
        if self._scanned:
            return
        self._scanned = True
        try:
            scan(self._data)
        except SuspectPickleError as error:
            raise UntrustedArtifactError(
                f"artifact {self._name!r} is not trusted: {error}; no pickler writes that. Inspect it with "
                "python -m pickletools before you load it with trust='full'",
                name=self._name,
                operation="load",
            ) from error


def _is_immutable(value: object) -> bool:
    if isinstance(value, type):
        return bool(value.__flags__ & _IMMUTABLE_TYPE)
    return isinstance(value, BuiltinFunctionType)


def _extensions_registered() -> bool:
    """Say whether extension codes can mean anything here: codes used before bypass `find_class`."""
    return bool(vars(copyreg)["_inverted_registry"])
