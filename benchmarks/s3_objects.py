"""The objects of the benchmark responder, and its answers: S3's, without its checks."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from itertools import count
from urllib.parse import quote
from xml.sax.saxutils import escape

_RANGE = re.compile(r"bytes=(\d+)-(\d*)")
_PART = re.compile(rb"<PartNumber>(\d+)</PartNumber>")


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    bucket: str
    key: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


@dataclass(slots=True)
class Answer:
    status: int
    body: bytes | memoryview = b""
    headers: dict[str, str] = field(default_factory=dict[str, str])
    length: int = -1
    """What Content-Length tells; of a HEAD more than the body has."""

    def __post_init__(self) -> None:
        if self.length < 0:
            self.length = len(self.body)


@dataclass(frozen=True, slots=True)
class Stored:
    body: bytes
    headers: dict[str, str]
    etag: str


class Objects:
    """Buckets come into being when they are written to."""

    def __init__(self) -> None:
        self._buckets: dict[str, dict[str, Stored]] = {}
        self._uploads: dict[str, tuple[dict[str, str], dict[int, bytes]]] = {}
        self._numbers = count(1)
        self._now = datetime.now(UTC)
        self._modified = format_datetime(self._now, usegmt=True)

    def answer(self, request: Request) -> Answer:
        """Do what a request asks for."""
        objects = self._buckets.setdefault(request.bucket, {})
        if not request.key:
            if request.method == "DELETE":
                del self._buckets[request.bucket]
            return self._list(objects, request) if request.method == "GET" else Answer(200)
        if "uploadId" in request.query or "uploads" in request.query:
            return self._upload(objects, request)
        if request.method == "PUT":
            if "x-amz-copy-source" in request.headers:
                return _error(501, "NotImplemented")
            return self._put(objects, request, request.body, _metadata(request.headers))
        if request.method == "DELETE":
            objects.pop(request.key, None)
            return Answer(204)
        stored = objects.get(request.key)
        if stored is None:
            return _error(404, "NoSuchKey")
        return self._get(stored, request)

    def _get(self, stored: Stored, request: Request) -> Answer:
        headers = {
            "etag": stored.etag,
            "last-modified": self._modified,
            "content-type": "binary/octet-stream",
            "accept-ranges": "bytes",
            **stored.headers,
        }
        size = len(stored.body)
        if request.method == "HEAD":
            return Answer(200, b"", headers, size)
        found = _RANGE.fullmatch(request.headers.get("range", ""))
        if found is None:
            return Answer(200, stored.body, headers)
        start, stop = int(found[1]), min(int(found[2] or size) + 1, size)
        if start >= size:
            return _error(416, "InvalidRange")
        headers["content-range"] = f"bytes {start}-{stop - 1}/{size}"
        return Answer(206, memoryview(stored.body)[start:stop], headers)

    def _put(self, objects: dict[str, Stored], request: Request, body: bytes, headers: dict[str, str]) -> Answer:
        if request.headers.get("if-none-match") == "*" and request.key in objects:
            return _error(412, "PreconditionFailed")
        etag = f'"{next(self._numbers):032x}"'
        objects[request.key] = Stored(body, headers, etag)
        return Answer(200, b"", {"etag": etag})

    def _upload(self, objects: dict[str, Stored], request: Request) -> Answer:
        if "uploads" in request.query:
            upload = f"upload{next(self._numbers)}"
            self._uploads[upload] = (_metadata(request.headers), {})
            return _xml(f"<InitiateMultipartUploadResult><UploadId>{upload}</UploadId></InitiateMultipartUploadResult>")
        upload = request.query["uploadId"]
        if upload not in self._uploads:
            return _error(404, "NoSuchUpload")
        headers, parts = self._uploads[upload]
        if request.method == "PUT":
            parts[int(request.query["partNumber"])] = request.body
            return Answer(200, b"", {"etag": f'"{next(self._numbers):032x}"'})
        if request.method == "POST":
            body = b"".join(parts[int(number)] for number in _PART.findall(request.body))
            answer = self._put(objects, request, body, headers)
            if answer.status != 200:
                return answer
            del self._uploads[upload]
            etag = escape(answer.headers["etag"])
            return _xml(f"<CompleteMultipartUploadResult><ETag>{etag}</ETag></CompleteMultipartUploadResult>")
        del self._uploads[upload]
        return Answer(204)

    def _list(self, objects: dict[str, Stored], request: Request) -> Answer:
        prefix, delimiter = request.query.get("prefix", ""), request.query.get("delimiter", "")
        after = request.query.get("continuation-token") or request.query.get("start-after", "")
        limit = int(request.query.get("max-keys", "1000"))
        spell = quote if request.query.get("encoding-type") == "url" else str
        rows: list[str] = []
        seen = last = ""
        more = False
        for key in sorted(key for key in objects if key.startswith(prefix) and key > after):
            head, found, _ = key[len(prefix) :].partition(delimiter) if delimiter else (key, "", "")
            directory = prefix + head + found if found else ""
            if directory and directory == seen:
                last = key
                continue
            if len(rows) == limit:
                more = True
                break
            seen, last = directory, key
            if directory:
                rows.append(f"<CommonPrefixes><Prefix>{escape(spell(directory))}</Prefix></CommonPrefixes>")
            else:
                stored = objects[key]
                rows.append(
                    f"<Contents><Key>{escape(spell(key))}</Key><Size>{len(stored.body)}</Size>"
                    f"<ETag>{escape(stored.etag)}</ETag><LastModified>{self._now:%Y-%m-%dT%H:%M:%S.000Z}</LastModified>"
                    "</Contents>"
                )
        encoding = "<EncodingType>url</EncodingType>" if spell is quote else ""
        token = f"<NextContinuationToken>{escape(last)}</NextContinuationToken>" if more else ""
        truncated = str(more).lower()
        return _xml(
            f"<ListBucketResult><IsTruncated>{truncated}</IsTruncated>{encoding}{token}{''.join(rows)}</ListBucketResult>"
        )


def _metadata(headers: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.startswith("x-amz-meta-")}


def _xml(text: str, status: int = 200) -> Answer:
    return Answer(status, f'<?xml version="1.0"?>{text}'.encode(), {"content-type": "application/xml"})


def _error(status: int, code: str) -> Answer:
    return _xml(f"<Error><Code>{code}</Code><Message>{code}</Message></Error>", status)
