"""A rival that does what a test tells it to."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path


class Rival:
    def __init__(self, fault: str = "") -> None:
        self._fault = fault

    def save(self, root, blobs):
        print("what a rival prints does not disturb the answers")
        if self._fault == "raises":
            raise ZeroDivisionError("scripted")
        if self._fault == "dies":
            sys.exit(3)
        keys = [hashlib.sha1(blob).hexdigest() for blob in blobs]
        for key, blob in zip(keys, blobs, strict=True):
            Path(root, key).write_bytes(blob)
        return keys[::-1] if self._fault == "wrong keys" else keys

    def load(self, root, keys):
        blobs = [Path(root, key).read_bytes() for key in keys]
        return [blob + b"x" for blob in blobs] if self._fault == "wrong bytes" else blobs


def versions():
    return {"scripted": "1"}
