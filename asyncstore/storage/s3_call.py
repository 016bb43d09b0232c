"""One request at a time to S3: its client, its deadline, and its errors in our words."""

from __future__ import annotations

from typing import Any

import anyio

from asyncstore.runtime import Runtime
from asyncstore.storage.s3_client import Loan, S3Clients
from asyncstore.storage.s3_errors import SDK_ERRORS, translate
from asyncstore.storage.s3_settings import S3Settings
from asyncstore.types import Timeouts


class S3Caller:
    """Calls the SDK for one bucket. The client is borrowed at the first call, and anew after a fork."""

    def __init__(self, bucket: str, root: str, settings: S3Settings, timeouts: Timeouts, runtime: Runtime) -> None:
        self.bucket = bucket
        self.root = root
        self.settings = settings
        self.timeouts = timeouts
        self.runtime = runtime
        self._loan: Loan | None = None

    async def call(self, method: str, operation: str, path: str, *, moved: int = 0, **arguments: Any) -> Any:
        """Make one request within the deadline for ``moved`` bytes; raise only errors of ours."""
        try:
            return await self.call_raw(method, moved=moved, **arguments)
        except SDK_ERRORS as error:
            raise translate(error, operation, path, self.root) from error

    async def call_raw(self, method: str, *, moved: int = 0, **arguments: Any) -> Any:
        """Make one request; raise what the SDK raises, or TimeoutError."""
        client = await self._client()
        with anyio.fail_after(self.timeouts.for_bytes(moved)):
            return await getattr(client, method)(**{"Bucket": self.bucket, **arguments})

    async def aclose(self) -> None:
        """Give the client back; a later call borrows one anew."""
        loan, self._loan = self._loan, None
        if loan is not None and loan.current:
            await loan.end()

    async def _client(self) -> Any:
        loan = self._loan
        if loan is None or not loan.current:
            clients = self.runtime.shared("s3", S3Clients)
            new = await clients.borrow(self.settings, self.timeouts.connect, self.runtime, self.root)
            if self._loan is not loan and self._loan is not None:
                # Another task was faster while this one waited.
                await new.end()
            else:
                self._loan = new
            loan = self._loan
        return loan.client
