"""What goes wrong with an S3 server is one clear line each, and no secret is ever shown."""

from __future__ import annotations

import json
import logging
import pickle
import traceback
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from asyncstore.errors import (
    AccessDeniedError,
    AsyncStoreError,
    ConfigError,
    StorageError,
    StorageTimeoutError,
    StorageUnavailableError,
)
from asyncstore.storage.registry import open_storage
from asyncstore.storage.s3 import S3Storage
from asyncstore.storage.s3_settings import S3Settings
from asyncstore.types import RetryPolicy, Timeouts
from tests.faults.actions import answer, stall
from tests.faults.proxy import Fault, FaultProxy
from tests.servers.process import free_port
from tests.servers.start import S3Server
from tests.storage.s3.conftest import OpenS3, credentials_file

pytestmark = pytest.mark.servers

WRONG = "0123456789wrongSECRETwrong0123456789wron"


@pytest.fixture
def secrets(moto_iam: S3Server, caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    """Texts to look through for secrets; all that was logged, at every level, is looked through too."""
    caplog.set_level(logging.DEBUG)
    # The SDK's own loggers at this level show what it signs, by design of the SDK; ours must not.
    for name in ("botocore", "aiobotocore", "urllib3", "boto3"):
        caplog.set_level(logging.INFO, logger=name)
    texts: list[str] = []
    yield texts
    texts += [record.getMessage() for record in caplog.records]
    assert texts
    for text in texts:
        for secret in (moto_iam.secret_key, WRONG):
            assert secret not in text


async def failure(storage: S3Storage, texts: list[str], verb: Callable[[], Awaitable[object]]) -> AsyncStoreError:
    """Return the error of a call; its texts are looked through for secrets."""
    with pytest.raises(AsyncStoreError) as caught:
        await verb()
    error = caught.value
    texts += [str(error), repr(error), repr(storage), repr(pickle.dumps(error))]
    texts += traceback.format_exception(error)
    assert "\n" not in str(error)
    assert error.where in {"a", ""}
    return error


async def test_a_wrong_secret(moto_iam: S3Server, open_s3: OpenS3, secrets: list[str], tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text(f"[default]\naws_access_key_id={moto_iam.access_key}\naws_secret_access_key={WRONG}\n")
    storage = await open_s3(moto_iam, credentials_file=str(wrong))
    error = await failure(storage, secrets, lambda: storage.put("a", b"x"))
    assert isinstance(error, AccessDeniedError)
    assert "correct the credentials" in str(error)


async def test_an_unknown_access_key(moto_iam: S3Server, open_s3: OpenS3, secrets: list[str], tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text(f"[default]\naws_access_key_id=AKIAUNKNOWN000000000\naws_secret_access_key={WRONG}\n")
    storage = await open_s3(moto_iam, credentials_file=str(wrong))
    assert isinstance(await failure(storage, secrets, lambda: storage.put("a", b"x")), AccessDeniedError)


async def test_no_credentials(moto_iam: S3Server, open_s3: OpenS3, secrets: list[str]) -> None:
    storage = await open_s3(moto_iam, credentials_file="/nonexistent/credentials")
    error = await failure(storage, secrets, lambda: storage.head("a"))
    assert isinstance(error, AccessDeniedError)
    assert "AWS_ACCESS_KEY_ID" in str(error)


async def test_an_unknown_profile(moto_iam: S3Server, open_s3: OpenS3, secrets: list[str]) -> None:
    storage = await open_s3(moto_iam, profile="not-there")
    error = await failure(storage, secrets, lambda: storage.head("a"))
    assert isinstance(error, ConfigError)
    assert "not-there" in str(error)


async def test_an_unknown_bucket(moto_iam: S3Server, open_s3: OpenS3, secrets: list[str]) -> None:
    storage = await open_s3(moto_iam, url="s3://there-is-no-such-bucket/p")
    for verb in (lambda: storage.put("a", b"x"), lambda: storage.delete("a")):
        error = await failure(storage, secrets, verb)
        assert isinstance(error, StorageError)
        assert "bucket does not exist" in str(error)
    async with storage.list("") as entries:
        assert "bucket does not exist" in str(await failure(storage, secrets, lambda: anext(entries)))


async def test_a_denied_action(moto_iam: S3Server, open_s3: OpenS3, secrets: list[str], tmp_path: Path) -> None:
    policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}]}
    with closing(moto_iam.client("iam")) as iam:
        iam.create_user(UserName="reader")
        key = iam.create_access_key(UserName="reader")["AccessKey"]
        iam.put_user_policy(UserName="reader", PolicyName="read", PolicyDocument=json.dumps(policy))
    file = tmp_path / "reader"
    file.write_text(
        f"[default]\naws_access_key_id={key['AccessKeyId']}\naws_secret_access_key={key['SecretAccessKey']}\n"
    )
    storage = await open_s3(moto_iam, credentials_file=str(file))
    error = await failure(storage, secrets, lambda: storage.put("a", b"x"))
    assert isinstance(error, AccessDeniedError)
    assert "lack the permission" in str(error)


async def test_an_endpoint_that_nobody_listens_on(moto_iam: S3Server, open_s3: OpenS3, secrets: list[str]) -> None:
    storage = await open_s3(moto_iam, endpoint_url=f"http://127.0.0.1:{free_port()}")
    error = await failure(storage, secrets, lambda: storage.head("a"))
    assert isinstance(error, StorageUnavailableError)
    assert "check endpoint_url" in str(error)


async def test_an_endpoint_that_says_nothing(moto_iam: S3Server, open_s3: OpenS3, secrets: list[str]) -> None:
    timeouts = Timeouts(connect=0.2, idle=0.2)
    async with FaultProxy(moto_iam.endpoint) as proxy, proxy.scripted(Fault("", stall())):
        storage = await open_s3(moto_iam, endpoint_url=proxy.endpoint, timeouts=timeouts)
        assert isinstance(await failure(storage, secrets, lambda: storage.head("a")), StorageTimeoutError)


@pytest.mark.parametrize(
    ("status", "code", "says"),
    [
        (403, "RequestTimeTooSkewed", "clock of this machine"),
        (400, "ExpiredToken", "renew the credentials"),
        (507, "InsufficientStorage", "free space"),
        (400, "SomethingNew", "SomethingNew: scripted"),
    ],
)
async def test_answers_that_only_real_services_give(
    status: int, code: str, says: str, moto_iam: S3Server, open_s3: OpenS3, secrets: list[str]
) -> None:
    async with FaultProxy(moto_iam.endpoint) as proxy, proxy.scripted(Fault("PUT", answer(status, code))):
        storage = await open_s3(moto_iam, endpoint_url=proxy.endpoint)
        error = await failure(storage, secrets, lambda: storage.put("a", b"x"))
        assert says in str(error)
        assert not error.retryable


async def test_metaflows_retry_counts_bound_the_attempts(
    moto_iam: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("METAFLOW_S3_RETRY_COUNT", "1")
    monkeypatch.setenv("METAFLOW_S3_TRANSIENT_RETRY_COUNT", "2")
    options: dict[str, Any] = {"credentials_file": credentials_file(tmp_path, moto_iam)}
    refusals = Fault("HEAD", answer(503, "SlowDown"), times=3)
    async with FaultProxy(moto_iam.endpoint) as proxy, proxy.scripted(refusals):
        async with open_storage("s3://bucket/p", endpoint_url=proxy.endpoint, **options) as storage:
            with pytest.raises(StorageUnavailableError):
                await storage.head("a")
        assert len(proxy.lines) == 3


async def test_a_bucket_that_is_said_to_be_elsewhere_is_followed_with_the_whole_body(
    moto: S3Server, open_s3: OpenS3
) -> None:
    elsewhere = answer(400, "IllegalLocationConstraintException")
    async with FaultProxy(moto.endpoint) as proxy, proxy.scripted(Fault("PUT", elsewhere)):
        storage = await open_s3(moto, endpoint_url=proxy.endpoint)
        await storage.put("a", b"the whole body")
    async with (await open_s3(moto, url=storage.root)).get("a") as reader:
        assert [chunk async for chunk in reader] == [b"the whole body"]


@pytest.mark.parametrize(
    "bad",
    [
        {"endpoint_url": f"http://user:{WRONG}@127.0.0.1:1"},
        {"endpoint_url": f"ftp://127.0.0.1/{WRONG}"},
        {"addressing": "sideways"},
        {"checksum": "sha3"},
        {"kms_key_id": "k"},
    ],
    ids=str,
)
def test_bad_settings_are_refused_without_showing_what_may_be_secret(bad: dict[str, str]) -> None:
    with pytest.raises(ConfigError) as caught:
        S3Settings(**bad)  # type: ignore[arg-type]  # what a caller without a type checker may give
    assert WRONG not in str(caught.value)


async def test_a_certificate_file_that_is_not_there(moto_iam: S3Server, open_s3: OpenS3, secrets: list[str]) -> None:
    storage = await open_s3(moto_iam, verify="/nonexistent/ca.pem")
    with pytest.raises(ConfigError, match=r"no file /nonexistent/ca.pem"):
        await storage.head("a")
    secrets.append(repr(storage))


async def test_a_storage_opened_by_url_takes_metaflows_settings(
    moto_iam: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, secrets: list[str]
) -> None:
    monkeypatch.setenv("METAFLOW_S3_ENDPOINT_URL", moto_iam.endpoint)
    monkeypatch.setenv("METAFLOW_S3_SERVER_SIDE_ENCRYPTION", "AES256")
    bucket = moto_iam.make_bucket()
    options: dict[str, Any] = {"credentials_file": credentials_file(tmp_path, moto_iam)}
    async with open_storage(f"s3://{bucket}/p", retry=RetryPolicy(attempts=1), **options) as storage:
        before = datetime.now(UTC)
        await storage.put("a", b"x")
        found = await storage.head("a")
        assert found is not None
        assert found.modified is not None
        assert abs((found.modified - before).total_seconds()) < 60
        secrets.append(repr(storage))
    stored = moto_iam.shared_client.head_object(Bucket=bucket, Key="p/a")
    assert stored["ServerSideEncryption"] == "AES256"
