"""The commands over s3:// URLs, with Metaflow's settings."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers.start import S3Server

pytestmark = pytest.mark.servers


def run(server: S3Server, *arguments: str) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "METAFLOW_"))}
    environ |= {**server.environ(), "METAFLOW_S3_ENDPOINT_URL": server.endpoint, "AWS_EC2_METADATA_DISABLED": "true"}
    command = [sys.executable, "-m", "asyncstore", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environ, check=False)
    assert "Traceback" not in done.stderr
    assert server.secret_key not in done.stdout + done.stderr
    return done


def test_a_tree_goes_to_s3_and_back_and_a_damage_is_found(moto_iam: S3Server, tmp_path: Path) -> None:
    source, back = tmp_path / "source", tmp_path / "back"
    (source / "deep").mkdir(parents=True)
    files = {"a.txt": b"some text " * 1000, "deep/b.bin": os.urandom(3_000_000), "empty": b""}
    for name, body in files.items():
        (source / name).write_bytes(body)
    bucket = moto_iam.make_bucket()
    url = f"s3://{bucket}/some/root"

    put = run(moto_iam, "put", str(source), "--to", url, "--json")
    assert put.returncode == 0, put.stderr
    manifest = tmp_path / "manifest"
    manifest.write_text(put.stdout)
    listed = run(moto_iam, "ls", url, "--recursive")
    assert listed.stdout.count("files/data/") == len(files)
    got = run(moto_iam, "get", "--manifest", str(manifest), "--from", url, "--output", str(back))
    assert got.returncode == 0, got.stderr
    found = {path.relative_to(back).as_posix(): path.read_bytes() for path in back.rglob("*") if path.is_file()}
    assert sorted(found.values()) == sorted(files.values())
    assert run(moto_iam, "check", url).returncode == 0

    keys = [json.loads(line)["key"] for line in put.stdout.splitlines() if '"key"' in line]
    client = moto_iam.shared_client
    path = f"some/root/files/data/{keys[0][:2]}/{keys[0]}"
    meta = client.head_object(Bucket=bucket, Key=path)["Metadata"]
    client.put_object(Bucket=bucket, Key=path, Body=b"damaged", Metadata=meta)
    checked = run(moto_iam, "check", url)
    assert checked.returncode == 1
    assert keys[0] in checked.stdout


def test_an_unknown_bucket_is_one_clear_line(moto_iam: S3Server) -> None:
    listed = run(moto_iam, "ls", "s3://there-is-no-such-bucket/x")
    assert listed.returncode not in {0, 1}
    assert "bucket does not exist" in listed.stderr
    assert len(listed.stderr.strip().splitlines()) == 1
