"""A server process: a free port, waiting until it answers, and its end."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.environments import HERE

START_SECONDS = 60.0
STOP_SECONDS = 10.0


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def serving(
    command: Sequence[str], *, port: int, log: Path, environ: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server inside the block, from its first answer on; stop it by SIGTERM to its own pid."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, str(HERE / "launch.py"), str(os.getpid()), *command],
            env={**os.environ, **(environ or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            _wait_until_it_answers(process, command, port, log)
            yield process
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise


def _wait_until_it_answers(process: subprocess.Popen[bytes], command: Sequence[str], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not _answers(port):
        code = process.poll()
        if code is not None or time.monotonic() > deadline:
            what = "is still silent" if code is None else f"ended with exit code {code}"
            tail = log.read_bytes()[-2000:].decode(errors="replace")
            raise RuntimeError(f"the server {what}: {' '.join(command[:4])} …\n{tail}")
        time.sleep(0.05)


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/")
        connection.getresponse().read()
    except OSError:
        return False
    except http.client.HTTPException:
        return True
    finally:
        connection.close()
    return True
