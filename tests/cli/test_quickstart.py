"""The first thing that somebody runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Cli


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make do with a small part of the standard library."""
    import json

    monkeypatch.setattr("sysconfig.get_paths", lambda: {"stdlib": str(Path(json.__file__).parent)})


def test_the_sample_is_hundreds_of_files_that_nobody_writes_to() -> None:
    from asyncstore.maintain.quickstart import sample_tree

    root, files = sample_tree()
    assert len(files) > 500
    assert all(path.is_relative_to(root) and "site-packages" not in path.parts for path in files)
    assert not any(path.suffix == ".pyc" for path in files)


def test_quickstart_saves_twice_and_loads_all_back(cli: Cli, few: None, tmp_path: Path) -> None:
    done = cli("quickstart", "kept")
    assert (done.code, done.err) == (0, "")
    rows = {line[:16].strip(): line[16:].split() for line in done.lines}
    first, second, loaded = rows["save"], rows["save again"], rows["load, verified"]
    assert first[0] == second[0] == loaded[0]
    assert int(first[2]) > 0
    assert second[2] == "0"
    assert "Try `asyncstore check kept`" in done.out
    assert cli("check", "kept").code == 0


def test_a_temporary_store_is_gone_afterwards(
    cli: Cli, few: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    done = cli("quickstart")
    assert done.code == 0
    assert "The store was temporary and is gone." in done.out
    assert list((tmp_path / "scratch").iterdir()) == []
