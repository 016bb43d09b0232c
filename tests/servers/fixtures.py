"""Pytest plugin: one server of each kind for the session; tests keep apart by buckets and prefixes of their own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from tests.environments import EnvironmentMissingError, ensure
from tests.servers import start

S = TypeVar("S")


@contextmanager
def needed() -> Iterator[None]:
    """Turn an environment that cannot be had into a skip on a laptop and a failure in CI. Nothing else decides this."""
    try:
        yield
    except EnvironmentMissingError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"test environment unavailable: {error}")


def _serve(server: Callable[[Path], AbstractContextManager[S]], factory: pytest.TempPathFactory) -> Iterator[S]:
    log = factory.mktemp("server") / f"{server.__name__}.log"
    running = server(log)
    with needed():
        value = running.__enter__()
    try:
        yield value
    finally:
        running.__exit__(None, None, None)


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[start.S3Server]:
    yield from _serve(start.moto, tmp_path_factory)


@pytest.fixture(scope="session")
def moto_iam(tmp_path_factory: pytest.TempPathFactory) -> Iterator[start.S3Server]:
    yield from _serve(start.moto_iam, tmp_path_factory)


@pytest.fixture(scope="session")
def rclone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[start.S3Server]:
    yield from _serve(start.rclone, tmp_path_factory)


@pytest.fixture(scope="session")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[start.AzureServer]:
    yield from _serve(start.azurite, tmp_path_factory)


@pytest.fixture(scope="session")
def fake_gcs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[start.GoogleServer]:
    yield from _serve(start.fake_gcs, tmp_path_factory)


@pytest.fixture(scope="session")
def metaflow_python() -> Path:
    """The Python of an environment with Metaflow as released."""
    with needed():
        return ensure("metaflow")
