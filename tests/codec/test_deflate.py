"""Where isal has no wheel, zlib does the work."""

from __future__ import annotations

import subprocess
import sys
from typing import cast

from isal import isal_zlib

from asyncstore.codec.deflate import FASTEST, crc32

SCRIPT = """
import sys, zlib
sys.modules["isal"] = None  # as if it were not installed
from asyncstore.codec.deflate import FASTEST, crc32
from asyncstore.codec.registry import codec_named
assert FASTEST is zlib, FASTEST
codec = codec_named("gzip")
content = b"abc" * 1_000_000
assert codec.decompress(codec.compress(content), max_size=len(content)) == content
assert crc32(b"c", crc32(b"ab")) == zlib.crc32(b"abc")
"""


def test_isal_is_used_where_it_is_installed():
    assert cast("object", FASTEST) is isal_zlib
    assert crc32(b"c", crc32(b"ab")) == isal_zlib.crc32(b"abc")


def test_zlib_is_used_where_isal_is_missing():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
