"""kill -9 of a process that saves to S3: what is listed afterwards is whole, and what is left open can be aborted."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import anyio.to_thread
import pytest

from asyncstore.maintain.check import check_blobs, find_blob_directories
from asyncstore.maintain.uploads import abort_open_uploads
from asyncstore.storage.base import SupportsOpenUploads
from asyncstore.storage.limited import Limited
from asyncstore.storage.retrying import Retrying
from asyncstore.storage.s3 import S3Storage
from tests.servers.start import S3Server
from tests.storage.s3.conftest import OpenS3

pytestmark = pytest.mark.servers


def run_and_kill(storage: S3Storage, server: S3Server, seed: int) -> None:
    writer = Path(__file__).with_name("kill_writer.py")
    root = str(Path(__file__).parents[3])
    command = [sys.executable, str(writer), storage.root, server.endpoint, str(seed)]
    environ = {**os.environ, **server.environ(), "PYTHONPATH": root}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(random.Random(seed).uniform(0, 0.8))
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL


@pytest.mark.parametrize("rounds", [6, pytest.param(50, marks=[pytest.mark.slow, pytest.mark.timeout(1200)])])
async def test_blobs_listed_after_a_kill_verify_and_open_uploads_are_aborted(
    rounds: int, moto: S3Server, open_s3: OpenS3
) -> None:
    s3 = await open_s3(moto)
    storage = Retrying(Limited(s3))
    for seed in range(rounds):
        await anyio.to_thread.run_sync(run_and_kill, s3, moto, seed)
    async with check_blobs(storage, await find_blob_directories(storage)) as blobs:
        seen = [blob async for blob in blobs]
    assert len(seen) > rounds  # the writers got somewhere
    assert [blob.path for blob in seen if blob.error is not None] == []
    uploads = storage.power(SupportsOpenUploads)
    assert uploads is not None
    left = await uploads.open_uploads()
    assert left, "no writer was killed inside an upload: the kills came too early or too late"
    assert await abort_open_uploads(storage, older_than=timedelta(days=100 * 365)) == []
    assert len(await abort_open_uploads(storage, older_than=timedelta(0))) == len(left)
    assert await uploads.open_uploads() == []
