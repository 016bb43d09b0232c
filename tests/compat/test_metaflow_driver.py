import hashlib
import os
from pathlib import Path

import pytest

from tests.compat.metaflow_store import MetaflowStore
from tests.servers.start import S3Server

pytestmark = pytest.mark.servers

BLOBS = [b"", b"x", b"compressible " * 100_000, os.urandom(200_000)]
KEYS = [hashlib.sha1(blob).hexdigest() for blob in BLOBS]


@pytest.mark.parametrize("raw", [False, True], ids=["gzip", "raw"])
def test_metaflow_loads_what_it_saved_on_local_disk(metaflow_python: Path, tmp_path: Path, raw: bool) -> None:
    store = MetaflowStore(metaflow_python, str(tmp_path), "Flow/data")
    assert store.save(BLOBS, raw=raw) == KEYS
    assert store.load(KEYS) == dict(zip(KEYS, BLOBS, strict=True))


def test_metaflow_loads_what_it_saved_on_s3(metaflow_python: Path, moto: S3Server) -> None:
    environ = {**moto.environ(), "METAFLOW_S3_ENDPOINT_URL": moto.endpoint}
    store = MetaflowStore(metaflow_python, f"s3://{moto.make_bucket()}/root", "Flow/data", environ)
    assert store.save(BLOBS) == KEYS
    assert store.load(KEYS) == dict(zip(KEYS, BLOBS, strict=True))
