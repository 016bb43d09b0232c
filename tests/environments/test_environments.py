import threading
from pathlib import Path

import pytest

from tests import environments
from tests.environments import EnvironmentMissingError, ensure


@pytest.fixture
def requirements(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Requirements of an environment called "metaflow" that needs nothing; environments go to ``tmp_path``."""
    monkeypatch.setattr(environments, "HERE", tmp_path)
    monkeypatch.setenv("ASYNCSTORE_TEST_ENVS", str(tmp_path / "envs"))
    file = tmp_path / "metaflow.txt"
    file.write_text("# nothing\n")
    return file


def test_an_environment_is_built_once_for_all_who_ask_at_the_same_time(
    requirements: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    builds: list[Path] = []
    build = environments._build_python

    def counted(target: Path, file: Path) -> None:
        builds.append(target)
        build(target, file)

    monkeypatch.setattr(environments, "_build_python", counted)
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(ensure("metaflow"))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(builds) == 1
    assert len(found) == 3
    assert len(set(found)) == 1
    assert found[0].exists()


def test_what_an_interrupted_build_left_is_built_anew(requirements: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(target: Path, file: Path) -> None:
        (target / "bin").mkdir()
        (target / "bin" / "python").write_text("half built")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(environments, "_build_python", interrupted)
        with pytest.raises(KeyboardInterrupt):
            ensure("metaflow")
    assert ensure("metaflow").resolve().read_bytes()[:4] != b"half"


def test_other_requirements_make_another_environment(requirements: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environments, "_build_python", lambda target, file: None)
    first = ensure("metaflow")
    requirements.write_text("# something else\n")
    assert ensure("metaflow") != first


def test_a_failed_build_names_the_command_and_is_not_taken_for_built(requirements: Path) -> None:
    requirements.write_text("./there-is-no-such-package\n")
    with pytest.raises(EnvironmentMissingError, match=r"pip install .*metaflow.txt(.|\n)*no-such-package"):
        ensure("metaflow")
    assert not list(requirements.parent.glob("envs/*/complete"))


def test_an_unknown_environment_is_an_error_that_names_those_there_are() -> None:
    with pytest.raises(ValueError, match="metaflow, servers, node"):
        ensure("perl")
