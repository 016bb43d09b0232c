"""Load pickles of arrays and frames under the presets; runs in an environment with pandas, without asyncstore's own.

Prints a line for each value that did not come back; none if all did.
"""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd  # type: ignore[import-not-found,import-untyped,unused-ignore]

from asyncstore.datastore.trust import TrustPolicy
from asyncstore.datastore.unpickle import loads
from asyncstore.errors import AsyncStoreError, UntrustedArtifactError

DAYS = pd.date_range("2020", periods=3)
ARRAYS = {
    "array": np.arange(6.0).reshape(2, 3),
    "texts": np.array(["a", "bc"]),
    "objects": np.array([None, "a"], dtype=object),
    "records": np.zeros(2, dtype=[("a", "i4"), ("b", "f8")]),
    "record array": np.rec.array([(1, 2)], dtype=[("a", "i4"), ("b", "i4")]),
    "masked": np.ma.array([1, 2], mask=[False, True]),
    "scalars": [np.float64(1), np.int32(2), np.bool_(True), np.str_("x"), np.datetime64("2020")],
}
FRAMES = {
    "numbers": pd.DataFrame({"a": [1, 2], "b": [1.5, 2]}),
    "texts in a frame": pd.DataFrame({"a": ["x", "y"], "b": [None, 1]}),
    "times": pd.DataFrame({"t": DAYS, "z": pd.date_range("2020", periods=3, tz="UTC")}, index=DAYS),
    "categories": pd.DataFrame({"c": pd.Categorical(["a", "b", "a"])}),
    "nullable": pd.DataFrame(
        {
            "i": pd.array([1, None], dtype="Int64"),
            "b": pd.array([True, None], dtype="boolean"),
            "s": pd.array(["a", None], dtype="string"),
            "f": pd.array([1.0, None], dtype="Float64"),
        }
    ),
    "levels": pd.DataFrame({"v": [1, 2]}, index=pd.MultiIndex.from_tuples([("a", 1), ("b", 2)])),
    "series": pd.Series([1, 2], name="x"),
    "indexes": [pd.Index(["a", "b"]), pd.RangeIndex(5), DAYS, pd.to_timedelta(["1D", "2D"]),
                pd.period_range("2020", periods=2, freq="D"), pd.interval_range(0, 3),
                pd.CategoricalIndex(["a", "b"])],
    "moments": [pd.Timestamp("2020-01-01"), pd.Timedelta("1D"), pd.NaT, pd.NA],
}  # fmt: skip
MONTHS = pd.Series([1, 2], index=pd.date_range("2020", periods=2, freq="MS"))


def check(name: str, value: object, trust: tuple[str, ...], less: tuple[str, ...]) -> None:
    for protocol in (2, 3, 4, 5):
        data = pickle.dumps(value, protocol)
        try:
            loaded = loads(data, trust=TrustPolicy.parse(trust), name=name)
        except AsyncStoreError as error:
            print(f"{name}, protocol {protocol}: {error}")
            continue
        if repr(loaded) != repr(value):
            print(f"{name}, protocol {protocol}: {loaded!r} instead of {value!r}")
        try:
            loads(data, trust=TrustPolicy.parse(less), name=name)
            print(f"{name}, protocol {protocol}: admitted by {less} already")
        except UntrustedArtifactError as error:
            if trust[-1] not in str(error):
                print(f"{name}, protocol {protocol}: the advice does not name {trust[-1]!r}: {error}")


def main() -> None:
    for name, value in ARRAYS.items():
        check(name, value, ("metaflow", "numpy"), ("metaflow",))
    for name, value in {**FRAMES, "months": MONTHS}.items():
        check(name, value, ("metaflow", "pandas"), ("metaflow",))


if __name__ == "__main__":
    main()
