import pickle
import subprocess
import sys
from pathlib import Path

import pytest

import asyncstore
from asyncstore import ConfigError, Limits, RetryPolicy, Runtime, StorageUnavailableError, build_storage, open_storage
from asyncstore.storage.memory import MemoryStorage


async def test_a_memory_url_opens_a_storage_that_works() -> None:
    async with open_storage("memory://x") as storage:
        await storage.put("a", b"1")
        assert (storage.TYPE, storage.root) == ("memory", "memory://x")
        assert await storage.head("a") is not None


async def test_the_stack_is_retrying_around_limited_around_the_backend() -> None:
    async with open_storage("memory://x") as storage:
        assert repr(storage) == "Retrying(Limited(MemoryStorage('x')))"


async def test_one_name_in_one_runtime_is_one_storage() -> None:
    async with Runtime() as runtime:
        async with open_storage("memory://x", runtime=runtime) as one:
            await one.put("a", b"1")
        async with open_storage("memory://x", runtime=runtime) as two, open_storage("memory://x") as other:
            assert await two.head("a") is not None
            assert await other.head("a") is None


async def test_a_runtime_that_was_given_is_not_closed_with_the_storage() -> None:
    async with Runtime() as runtime:
        executor = runtime.pool.executor
        async with open_storage("memory://x", runtime=runtime):
            pass
        assert runtime.pool.executor is executor
        async with open_storage("memory://x") as storage:
            own, threads = storage.runtime, storage.runtime.pool.executor
        assert own.pool.executor is not threads
        own.pool.close()


async def test_limits_are_those_given() -> None:
    async with open_storage("memory://x", limits=Limits(requests=3)) as storage:
        assert storage.runtime.limits.requests == 3


def test_a_runtime_and_limits_together_are_refused() -> None:
    with pytest.raises(ConfigError, match="not both"):
        build_storage("memory://x", runtime=Runtime(), limits=Limits())


async def test_limits_come_from_the_environment_when_none_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASYNCSTORE_REQUESTS", "7")
    async with open_storage("memory://x") as storage:
        assert storage.runtime.limits.requests == 7


def test_an_unknown_option_is_refused_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no option 'durable'; it takes durability, file_mode, follow_symlinks"):
        build_storage(tmp_path, durable="safe")
    with pytest.raises(ConfigError, match="no option 'durability'; it takes none"):
        build_storage("memory://x", durability="safe")


@pytest.mark.parametrize("url", ["azure://container/x", "gs://bucket/x"])
def test_a_scheme_without_a_backend_is_a_clear_error(url: str) -> None:
    with pytest.raises((ConfigError, asyncstore.MissingDependencyError)) as caught:
        build_storage(url)
    assert url in str(caught.value)


def test_a_stack_comes_back_from_a_pickle_with_one_runtime() -> None:
    storage = build_storage("memory://x", limits=Limits(requests=5), retry=RetryPolicy(attempts=2))
    pair = pickle.loads(pickle.dumps((storage, storage.runtime)))
    assert repr(pair[0]) == repr(storage)
    assert pair[0].runtime is pair[1]
    assert pair[1].limits.requests == 5


async def test_the_retry_policy_given_is_kept_also_by_a_pickle(monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_storage("memory://x", retry=RetryPolicy(attempts=2, base=0.001)) as storage:
        restored = pickle.loads(pickle.dumps(storage))
    failures = 0

    async def fail(self: MemoryStorage, path: str) -> None:
        nonlocal failures
        failures += 1
        raise StorageUnavailableError("scripted")

    monkeypatch.setattr(MemoryStorage, "head", fail)
    with pytest.raises(StorageUnavailableError):
        await restored.head("a")
    assert failures == 2


def test_a_missing_sdk_is_named_with_the_line_that_installs_it() -> None:
    script = """
import sys
sys.modules["aiobotocore"] = sys.modules["aiobotocore.session"] = None
import asyncstore
try:
    asyncstore.build_storage("s3://bucket/x")
except asyncstore.MissingDependencyError as error:
    print(error.package, "|", error)
"""
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert output == ("aiobotocore | s3://bucket/x needs the package aiobotocore: pip install 'asyncstore[s3]'\n")
