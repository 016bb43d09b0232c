"""Without a URL, the datastore is the one that Metaflow would use."""

from __future__ import annotations

from pathlib import Path

import pytest

from asyncstore.config import Config
from asyncstore.errors import ConfigError
from asyncstore.maintain.root import configured_root


def test_local_data_is_in_the_nearest_metaflow_directory_or_below_the_configured_one(tmp_path: Path) -> None:
    (tmp_path / ".metaflow").mkdir()
    (tmp_path / "src").mkdir()
    assert configured_root(Config(), tmp_path / "src") == str(tmp_path / ".metaflow")
    config = Config(datastore_sysroot_local="/srv/data")
    assert configured_root(config, tmp_path / "src") == "/srv/data/.metaflow"


@pytest.mark.parametrize(
    ("kind", "root", "url"),
    [
        ("s3", "s3://bucket/prefix", "s3://bucket/prefix"),
        ("azure", "container/prefix", "azure://container/prefix"),
        ("gs", "gs://bucket/prefix", "gs://bucket/prefix"),
    ],
)
def test_data_in_a_cloud_is_at_the_root_of_that_cloud(kind: str, root: str, url: str) -> None:
    config = Config(**{"default_datastore": kind, f"datastore_sysroot_{kind}": root})  # type: ignore[arg-type]  # by name
    assert configured_root(config) == url
    with pytest.raises(ConfigError, match=f"set METAFLOW_DATASTORE_SYSROOT_{kind.upper()}, or give a URL"):
        configured_root(Config(default_datastore=kind))
