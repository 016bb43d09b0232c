"""The golden data is what it claims to be: without this, a test over it could pass on nothing."""

from __future__ import annotations

from pathlib import Path

from asyncstore.layout import split_blob_path
from tests.golden import expected, extract


def test_each_expected_blob_is_a_file_of_the_golden_datastore(tmp_path: Path) -> None:
    root = extract(tmp_path)
    found = {path.relative_to(root).as_posix() for path in root.rglob("*") if split_blob_path(path.as_posix())}
    assert found == {blob["stored_file"] for blob in expected()["blobs"].values()}
    assert len(found) == 132
