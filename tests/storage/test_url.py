from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncstore.errors import ConfigError
from asyncstore.storage.url import StorageUrl, parse_url, redact_url


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("/data/store", StorageUrl("file", "/data/store")),
        ("/data/store/", StorageUrl("file", "/data/store")),
        ("store", StorageUrl("file", "/here/store")),
        ("./a:b", StorageUrl("file", "/here/a:b")),
        ("ab:c", StorageUrl("file", "/here/ab:c")),
        ("/a%20b?c#d", StorageUrl("file", "/a%20b?c#d")),
        (Path("store"), StorageUrl("file", "/here/store")),
        ("file:///data/store", StorageUrl("file", "/data/store")),
        ("file://localhost/data", StorageUrl("file", "/data")),
        ("FILE:///a%20b", StorageUrl("file", "/a b")),
        ("s3://bucket", StorageUrl("s3", "bucket")),
        ("s3://bucket/", StorageUrl("s3", "bucket")),
        ("s3://bucket/a/b/", StorageUrl("s3", "bucket", "a/b")),
        ("azure://container/ä", StorageUrl("azure", "container", "ä")),
        ("azure://$web/x", StorageUrl("azure", "$web", "x")),
        ("gs://my.bucket_1/x", StorageUrl("gs", "my.bucket_1", "x")),
        ("memory://name", StorageUrl("memory", "name")),
        ("memory://a/b", StorageUrl("memory", "a/b")),
    ],
)
def test_a_url_has_a_place_and_a_prefix(text: str | Path, parsed: StorageUrl) -> None:
    assert parse_url(text, cwd="/here") == parsed


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("a\0b", "NUL"),
        ("s3:/bucket/x", "'//' is missing"),
        ("s3:bucket", "'//' is missing"),
        ("s3://", "names no bucket"),
        ("s3:///x", "names no bucket"),
        ("s3://bucket/a//b", "empty"),
        ("s3://bucket/../x", "not allowed"),
        ("s3://bucket/x?version=1", "query"),
        ("s3://bucket#x", "query or a fragment"),
        ("s3://-bucket/x", "no name of a bucket"),
        ("http://example.org/x", "no scheme 'http'"),
        ("file://host/x", "three slashes"),
        ("file:x", "'//' is missing"),
        ("memory://", "no name"),
    ],
)
def test_what_is_no_storage_url_is_refused_with_what_is_one(text: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as caught:
        parse_url(text)
    assert "s3://bucket/prefix" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "s3://AKIA:secret@bucket/x",
        "gs://secret@bucket",
        "http://me:secret@host/x",
        "azure://c/x?sig=secret",
        "foo://c#secret",
    ],
)
def test_credentials_in_a_url_are_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_url(url)
    assert "secret" not in str(caught.value)
    assert "secret" not in str(caught.value.where)


@given(st.text(max_size=30))
def test_any_text_is_a_url_or_a_config_error(text: str) -> None:
    try:
        parsed = parse_url(text, cwd="/here")
    except ConfigError:
        return
    assert parsed.place


@given(st.sampled_from(["s3://bucket", "s3://b/x/y", "azure://c/x", "gs://b", "memory://n", "/a/b"]))
def test_the_text_of_a_url_is_that_url(text: str) -> None:
    assert str(parse_url(text)) == text


def test_a_redacted_url_still_says_where() -> None:
    assert redact_url("https://u:p@host:9000/a/b?sig=x#y") == "https://host:9000/a/b"
    assert redact_url("https://host?sig=x/y") == "https://host/y"
    assert redact_url("/a@b?c") == "/a@b?c"
