"""Sessions that developers and CI run.

``nox`` alone runs what CI runs. ``nox -s NAME -- ARGS`` hands ARGS to the tool of that session;
``nox -s tests --force-python 3.13`` takes another Python; ``nox --default-venv-backend uv`` installs faster.
"""

from __future__ import annotations

import shutil

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "virtualenv"
nox.options.reuse_venv = "yes"
# The tests come last, so that what is on the screen at the end is their summary.
nox.options.sessions = ["lint", "types", "build", "tests"]

PYPROJECT = nox.project.load_toml("pyproject.toml")
EVERYTHING = ".[s3,azure,gs,postgres,fast]"


def _install(session: nox.Session, group: str, *others: str) -> None:
    session.install(*others, *nox.project.dependency_groups(PYPROJECT, group))


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, spelling and the floors that imports may cross."""
    _install(session, "lint", "-e", EVERYTHING)
    session.run("ruff", "format", "--check", ".")
    session.run("ruff", "check", *session.posargs, ".")
    session.run("codespell", "asyncstore", "tests", "benchmarks", "README.md", "CHANGELOG.md", "noxfile.py")
    session.run("lint-imports")


@nox.session
def types(session: nox.Session) -> None:
    """Check types, strictly and with two checkers."""
    _install(session, "types", "-e", EVERYTHING)
    session.run("mypy", *session.posargs)
    session.run("pyright", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """Run all tests but the long ones, with their coverage; or what ARGS tell pytest, without it."""
    _install(session, "tests", "-e", EVERYTHING)
    session.run("pytest", "-m", "not slow", *(session.posargs or ("--cov", "--cov-report=term")))


@nox.session(default=False)
def lowest(session: nox.Session) -> None:
    """Run the tests with the oldest releases that pyproject.toml allows."""
    session.install("uv")
    options = ("--resolution", "lowest-direct", "--python", f"{session.bin}/python", "--group", "tests")
    session.run("uv", "pip", "install", *options, "-e", EVERYTHING)
    session.run("pytest", "-m", "not slow", *session.posargs)


@nox.session(default=False)
def conformance(session: nox.Session) -> None:
    """Run the shipped suites over every backend, with real servers."""
    _install(session, "tests", "-e", EVERYTHING)
    session.run("pytest", "-k", "conformance", *session.posargs)


@nox.session(default=False)
def stateful(session: nox.Session) -> None:
    """Run the state machines for long."""
    _install(session, "tests", "-e", EVERYTHING)
    session.run("pytest", "-m", "slow", "-k", "stateful", *session.posargs)


@nox.session(default=False)
def faults(session: nox.Session) -> None:
    """Run the scripted faults, crashes and kills in their long form."""
    _install(session, "tests", "-e", EVERYTHING)
    session.run("pytest", "-m", "slow", "-k", "not stateful", *session.posargs)


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """Run a benchmark: ``nox -s bench -- local`` runs benchmarks/bench_local.py."""
    _install(session, "tests", EVERYTHING)
    name, *arguments = session.posargs or ["local"]
    session.run("python", "-m", f"benchmarks.bench_{name}", *arguments)


@nox.session
def build(session: nox.Session) -> None:
    """Build the source archive and the wheel, and check what a package index would show."""
    _install(session, "build")
    shutil.rmtree("dist", ignore_errors=True)
    session.run("python", "-m", "build", *session.posargs)
    session.run("twine", "check", "--strict", "dist/asyncstore-*")
