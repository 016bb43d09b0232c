import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path

import botocore.exceptions
import pytest

from tests.servers import start
from tests.servers.process import free_port, serving

pytestmark = pytest.mark.servers


@pytest.fixture(params=["moto", "moto_iam", "rclone"])
def s3(request: pytest.FixtureRequest) -> start.S3Server:
    server: start.S3Server = request.getfixturevalue(request.param)
    return server


def test_every_s3_server_stores_objects_for_its_own_credentials(s3: start.S3Server) -> None:
    bucket = s3.make_bucket()
    with contextlib.closing(s3.client()) as client:
        client.put_object(Bucket=bucket, Key="a/b", Body=b"content", Metadata={"k": "v"})
        answer = client.get_object(Bucket=bucket, Key="a/b")
        with contextlib.closing(answer["Body"]) as body:
            assert body.read() == b"content"
        # Header names know no case, and rclone gives them back in another one.
        assert {name.lower(): value for name, value in answer["Metadata"].items()}["k"] == "v"


@pytest.mark.parametrize("kind", ["moto_iam", "rclone"])
def test_servers_that_check_signatures_refuse_a_wrong_secret(kind: str, request: pytest.FixtureRequest) -> None:
    server: start.S3Server = request.getfixturevalue(kind)
    bucket = server.make_bucket()
    wrong = replace(server, secret_key=server.secret_key[::-1])
    with (
        contextlib.closing(wrong.client()) as client,
        pytest.raises(botocore.exceptions.ClientError, match="SignatureDoesNotMatch"),
    ):
        client.put_object(Bucket=bucket, Key="a", Body=b"")


def test_azurite_refuses_requests_without_a_signature(azurite: start.AzureServer) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"{azurite.endpoint}?comp=list", timeout=10)
    with caught.value:
        assert caught.value.code == 403


def test_fake_gcs_stores_objects(fake_gcs: start.GoogleServer) -> None:
    bucket = fake_gcs.make_bucket()
    url = f"{fake_gcs.endpoint}/upload/storage/v1/b/{bucket}/o?uploadType=media&name=a"
    with urllib.request.urlopen(urllib.request.Request(url, data=b"content", method="POST"), timeout=10) as answer:
        assert answer.status == 200
    url = f"{fake_gcs.endpoint}/storage/v1/b/{bucket}/o/a?alt=media"
    with urllib.request.urlopen(url, timeout=10) as answer:
        assert answer.read() == b"content"


def test_a_server_is_gone_when_its_block_ends(tmp_path: Path) -> None:
    with start.rclone(tmp_path / "log") as server:
        os.kill(server.pid, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(server.pid, 0)


def test_a_server_that_cannot_start_is_an_error_with_the_end_of_its_log(tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, "-c", "raise SystemExit('no such option')"]
    with (
        pytest.raises(RuntimeError, match=r"ended with exit code 1(.|\n)*no such option"),
        serving(command, port=port, log=tmp_path / "log"),
    ):
        pass


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no signal for the death of a parent")
def test_a_server_does_not_outlive_a_test_run_that_is_killed(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from tests.servers import start\n"
        f"with start.rclone(Path({str(tmp_path / 'log')!r})) as server:\n"
        "    print(server.pid, flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        pid = int(run.stdout.readline())
        run.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes():
        assert time.monotonic() < deadline, "the server is still running"
        time.sleep(0.05)
