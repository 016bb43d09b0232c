"""The URL of a metadata service, kept apart from the credentials that may stand in it: pure."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from asyncstore.errors import ConfigError


@dataclass(frozen=True, slots=True)
class ServiceUrl:
    """``base`` is scheme, host, port and path prefix without trailing '/'; ``userinfo`` is ``user:password``."""

    base: str
    userinfo: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, url: str) -> ServiceUrl:
        """Read a URL, or raise `ConfigError` that does not show a password."""
        try:
            parts = urlsplit(url.strip())
            host, port = parts.hostname, parts.port
        except ValueError:
            raise ConfigError("the URL of the metadata service has no valid host and port") from None
        if parts.scheme not in {"http", "https"} or not host:
            raise ConfigError("the URL of the metadata service begins with http:// or https:// and a host")
        if parts.query or parts.fragment:
            raise ConfigError("the URL of the metadata service has no query and no fragment")
        userinfo, _, _ = parts.netloc.rpartition("@")
        shown = f"[{host}]" if ":" in host else host
        place = shown if port is None else f"{shown}:{port}"
        return cls(f"{parts.scheme}://{place}{parts.path.rstrip('/')}", unquote(userinfo) if userinfo else None)

    @property
    def headers(self) -> dict[str, str]:
        """The header that carries user and password, if there are any."""
        if self.userinfo is None:
            return {}
        return {"Authorization": "Basic " + b64encode(self.userinfo.encode()).decode()}
