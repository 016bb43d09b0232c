"""The command line: parses and prints; what it does lives in the packages below."""

from __future__ import annotations

import os
import sys
import traceback


def main() -> None:
    """Run the program with the arguments of the process, and end it with the exit code."""
    _open_standard_streams()
    from asyncstore.cli.app import run
    from asyncstore.cli.failures import UNFINISHED

    try:
        code = run(sys.argv[1:])
    except Exception:  # noqa: BLE001  # told whole; Python would end with 1, which means damage
        traceback.print_exc()
        code = UNFINISHED
    try:
        sys.stdout.flush()
    except OSError:
        # Told before; what the buffer still holds would be tried and complained of once more at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        code = code or UNFINISHED
    sys.exit(code)


def _open_standard_streams() -> None:
    """Occupy the descriptors of closed standard streams: the next file opened would get them, and what is printed."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest that is free: this one
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115  # stays open
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115  # stays open
