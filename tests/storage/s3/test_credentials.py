"""Credentials come by every link of the SDK's chain; a handle opens anew after a fork."""

from __future__ import annotations

import json
import multiprocessing
import sys
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from asyncstore.storage.s3 import S3Storage
from tests.servers.start import S3Server
from tests.storage.s3.conftest import OpenS3

pytestmark = pytest.mark.servers


async def test_from_the_environment(rclone: S3Server, open_s3: OpenS3, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in rclone.environ().items():
        monkeypatch.setenv(name, value)
    storage = await open_s3(rclone, credentials_file=None)
    assert (await storage.put("a", b"x")).size == 1


async def test_from_a_profile_that_asks_a_process(
    rclone: S3Server, open_s3: OpenS3, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    secret = tmp_path / "secret.json"
    answer = {"Version": 1, "AccessKeyId": rclone.access_key, "SecretAccessKey": rclone.secret_key}
    secret.write_text(json.dumps(answer))
    config = tmp_path / "config"
    ask = f"{sys.executable} -c 'print(open(\"{secret}\").read())'"
    config.write_text(f"[profile asking]\nregion = eu-west-3\ncredential_process = {ask}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    storage = await open_s3(rclone, credentials_file=None, profile="asking")
    assert (await storage.put("a", b"x")).size == 1
    assert storage._caller._loan is not None
    assert storage._caller._loan.client.meta.region_name == "eu-west-3"


async def test_two_profiles_of_one_runtime_do_not_share_a_client(
    rclone: S3Server, open_s3: OpenS3, tmp_path: Path
) -> None:
    right = await open_s3(rclone)
    await right.put("a", b"x")
    wrong = tmp_path / "wrong"
    wrong.write_text("[default]\naws_access_key_id = AKIAWRONG00000000000\naws_secret_access_key = wrong\n")
    other = await open_s3(rclone, url=right.root, runtime=right.runtime, credentials_file=str(wrong))
    with pytest.raises(Exception, match="put of a in"):
        await other.put("a", b"y")


def use_in_child(storage: S3Storage) -> None:
    async def use() -> None:
        async with storage.get("a") as reader:
            assert [chunk async for chunk in reader] == [b"x"]
        await storage.put("b", b"from the child")
        await storage.aclose()

    anyio.run(use)


@pytest.mark.skipif(sys.platform == "darwin", reason="frameworks of macOS do not survive a fork")
async def test_a_handle_opens_anew_after_a_fork(rclone: S3Server, open_s3: OpenS3) -> None:
    storage = await open_s3(rclone)
    await storage.put("a", b"x")
    child = multiprocessing.get_context("fork").Process(target=use_in_child, args=(storage,))
    child.start()
    await anyio.to_thread.run_sync(child.join, 30)
    assert child.exitcode == 0
    async with storage.get("b") as reader:  # the parent's connections are untouched
        assert [chunk async for chunk in reader] == [b"from the child"]
