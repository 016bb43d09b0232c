"""Environments of their own for what cannot be installed beside asyncstore: servers, and Metaflow itself.

``ensure`` builds them at the first need, from the pinned requirements in this directory, below ``.envs`` or
``$ASYNCSTORE_TEST_ENVS``. ``python -m tests.environments`` builds them all beforehand.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).parent
NAMES = ("metaflow", "servers", "node", "pandas2", "pandas3")


class EnvironmentMissingError(Exception):
    """An environment could not be built; the message has the command that failed and the end of its output."""


def ensure(name: str) -> Path:
    """Return the Python of one of the environments in `NAMES`, or the ``node_modules`` of "node".

    Several processes may ask at once: one builds, the others wait. An environment counts only once its build
    has ended well; what an interrupted build left is removed.
    """
    inputs, build, result = _plan(name)
    base = Path(os.environ.get("ASYNCSTORE_TEST_ENVS") or HERE.parent.parent / ".envs").absolute()
    base.mkdir(parents=True, exist_ok=True)
    target = base / f"{name}-{_digest(inputs)}"
    complete = target / "complete"
    if not complete.exists():
        with _locked(base / f"{name}.lock"):
            if not complete.exists():
                shutil.rmtree(target, ignore_errors=True)
                target.mkdir()
                build(target)
                complete.touch()
    return target / result


def _plan(name: str) -> tuple[list[Path], Callable[[Path], None], str]:
    if name == "node":
        sources = [HERE / "node" / "package.json", HERE / "node" / "package-lock.json"]
        return sources, _build_node, "node_modules"
    requirements = HERE / f"{name}.txt"
    if not requirements.exists():
        raise ValueError(f"no environment {name!r}; there are {', '.join(NAMES)}")
    return [requirements], lambda target: _build_python(target, requirements), "bin/python"


def _build_python(target: Path, requirements: Path) -> None:
    python = str(target / "bin" / "python")
    # The directory is final, not renamed into place: the scripts of an environment hold its absolute path.
    if uv := shutil.which("uv"):
        _run([uv, "venv", "--quiet", "--allow-existing", "--python", sys.executable, str(target)])
        _run([uv, "pip", "install", "--quiet", "--python", python, "-r", str(requirements)])
    else:
        _run([sys.executable, "-m", "venv", str(target)])
        _run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(requirements)])


def _build_node(target: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise EnvironmentMissingError("npm is not on PATH: install Node.js 20 or later to run azurite")
    for source in ("package.json", "package-lock.json"):
        shutil.copy(HERE / "node" / source, target)
    _run([npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(target)])


def _run(command: list[str]) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    if done.returncode:
        raise EnvironmentMissingError(
            f"command failed with exit code {done.returncode}: {' '.join(command)}\n{done.stdout[-2000:].strip()}"
        )


def _digest(inputs: list[Path]) -> str:
    digest = hashlib.sha256(f"{sys.implementation.cache_tag} {sys.platform}".encode())
    for path in inputs:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # let go with the descriptor, also by kill -9
        yield
