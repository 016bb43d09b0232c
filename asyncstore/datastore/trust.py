"""Which globals a stored pickle may name, and what each of them stands for.

A policy is data: pairs of module and name. Nothing here unpickles; `asyncstore.datastore.unpickle` alone does.

Not promised: an admitted pickle may still ask for much memory or time (``set(range(10**12))``), and the presets for
numpy and pandas admit constructors that those libraries do not harden against crafted input.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias

from asyncstore.errors import ConfigError

Global: TypeAlias = tuple[str, str]
Trust: TypeAlias = str | Iterable[str]
"""``"metaflow"``, ``"numpy"``, ``"pandas"``, ``"full"``, one class as ``"module:name"``, or several of these."""

FULL = "full"


def _table(text: str) -> frozenset[Global]:
    pairs: set[Global] = set()
    for line in text.split("\n"):
        module, _, names = line.strip().partition(":")
        pairs.update((module, name) for name in names.split())
    return frozenset(pairs)


# Only types whose construction makes a new value and does nothing else; no function of builtins. Names of Python 2
# (``__builtin__``, ``UserDict``) are what protocol 2, Metaflow's "pickle-v2", writes; Python 3.13 writes
# ``pathlib._local``.
_METAFLOW = _table(
    """builtins: set frozenset bytearray bytes complex range slice
    __builtin__: set frozenset bytearray bytes complex xrange slice
    UserDict: IterableUserDict
    UserList: UserList
    UserString: UserString
    _codecs: encode
    collections: OrderedDict defaultdict deque Counter ChainMap UserDict UserList UserString
    datetime: date datetime time timedelta timezone tzinfo
    decimal: Decimal
    uuid: UUID
    pathlib: PurePath PurePosixPath PureWindowsPath
    pathlib._local: PurePath PurePosixPath PureWindowsPath
    __main__: ForeachFrame
    metaflow.exception: MetaflowExceptionWrapper
    metaflow.includefile: IncludedFile"""
)
# As written by numpy 1.26 to 2.4 and pandas 2.3 to 3.1, with the older places of the same names.
_NUMPY = _table(
    """numpy: ndarray dtype record recarray
    numpy.rec: recarray
    numpy.ma: MaskedArray
    numpy.ma.core: MaskedArray _mareconstruct
    numpy.core.multiarray: _reconstruct scalar
    numpy._core.multiarray: _reconstruct scalar
    numpy.core.numeric: _frombuffer
    numpy._core.numeric: _frombuffer"""
)
_PANDAS = _NUMPY | _table(
    """pandas: DataFrame Series Index RangeIndex MultiIndex DatetimeIndex TimedeltaIndex CategoricalIndex
    pandas: PeriodIndex IntervalIndex Categorical NA
    pandas: BooleanDtype CategoricalDtype DatetimeTZDtype PeriodDtype StringDtype Float32Dtype Float64Dtype
    pandas: Int8Dtype Int16Dtype Int32Dtype Int64Dtype UInt8Dtype UInt16Dtype UInt32Dtype UInt64Dtype
    pandas.arrays: BooleanArray DatetimeArray FloatingArray IntegerArray PeriodArray StringArray TimedeltaArray
    pandas.core.frame: DataFrame
    pandas.core.series: Series
    pandas.core.internals.managers: BlockManager SingleBlockManager
    pandas._libs.internals: _unpickle_block BlockPlacement
    pandas.core.indexes.base: Index _new_Index
    pandas.core.indexes.range: RangeIndex
    pandas.core.indexes.multi: MultiIndex
    pandas.core.indexes.datetimes: DatetimeIndex _new_DatetimeIndex
    pandas.core.indexes.timedeltas: TimedeltaIndex _new_TimedeltaIndex
    pandas.core.indexes.category: CategoricalIndex
    pandas.core.indexes.period: PeriodIndex _new_PeriodIndex
    pandas.core.indexes.interval: IntervalIndex _new_IntervalIndex
    pandas.core.arrays.boolean: BooleanArray BooleanDtype
    pandas.core.arrays.categorical: Categorical
    pandas.core.arrays.datetimes: DatetimeArray
    pandas.core.arrays.floating: FloatingArray Float32Dtype Float64Dtype
    pandas.core.arrays.integer: IntegerArray Int8Dtype Int16Dtype Int32Dtype Int64Dtype
    pandas.core.arrays.integer: UInt8Dtype UInt16Dtype UInt32Dtype UInt64Dtype
    pandas.core.arrays.period: PeriodArray
    pandas.core.arrays.string_: StringArray StringDtype
    pandas.core.arrays.timedeltas: TimedeltaArray
    pandas.core.dtypes.dtypes: CategoricalDtype DatetimeTZDtype PeriodDtype
    pandas._libs.arrays: __pyx_unpickle_NDArrayBacked
    pandas._libs.missing: NA
    pandas._libs.tslibs.timestamps: Timestamp _unpickle_timestamp
    pandas._libs.tslibs.timedeltas: Timedelta _timedelta_unpickle
    pandas._libs.tslibs.nattype: _nat_unpickle __nat_unpickle
    pandas._libs.tslibs.offsets: Day Hour Minute Second Milli Micro Nano Week BusinessDay MonthBegin MonthEnd
    pandas._libs.tslibs.offsets: QuarterBegin QuarterEnd YearBegin YearEnd"""
)
PRESETS: Mapping[str, frozenset[Global]] = MappingProxyType({"metaflow": _METAFLOW, "numpy": _NUMPY, "pandas": _PANDAS})


@dataclass(frozen=True, slots=True)
class TrustPolicy:
    """The globals that may be named: ``admitted``, or all of them if ``full``."""

    admitted: frozenset[Global]
    full: bool
    names: tuple[str, ...]

    @classmethod
    def parse(cls, trust: Trust | TrustPolicy) -> TrustPolicy:
        """Return the policy that ``trust`` describes. Raises `ConfigError` for an unknown preset."""
        if isinstance(trust, TrustPolicy):
            return trust
        names = (trust,) if isinstance(trust, str) else tuple(trust)
        admitted: set[Global] = set()
        for name in names:
            module, colon, attribute = name.partition(":")
            if name in PRESETS:
                admitted |= PRESETS[name]
            elif colon and module and attribute and "." not in attribute:
                admitted.add((module, attribute))
            elif name != FULL:
                raise ConfigError(
                    f"trust {name!r} is unknown; use {', '.join(map(repr, PRESETS))}, 'full', "
                    "or 'module:name' for one class"
                )
        return cls(frozenset(admitted), FULL in names, names)

    def admits(self, module: str, name: str) -> bool:
        return self.full or (module, name) in self.admitted

    def advice(self, module: str, name: str) -> str:
        """Return what to pass so that a refused global is admitted."""
        for preset, table in PRESETS.items():
            if (module, name) in table:
                return f"pass trust={(*self.names, preset)!r} to admit it"
        if "." in name:
            return "dotted names are admitted by trust='full' only, which runs any code that the pickle asks for"
        wider = (*self.names, f"{module}:{name}")
        return f"pass trust={wider!r} to admit it, or trust='full' to run any code that a pickle asks for"
