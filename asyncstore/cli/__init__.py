"""The command line: parses and prints; what it does lives in the packages below."""

from __future__ import annotations

import sys
import traceback


def main() -> None:
    """Run the program with the arguments of the process, and end it with the exit code."""
    from asyncstore.cli.app import run
    from asyncstore.cli.failures import UNFINISHED

    try:
        code = run(sys.argv[1:])
    except Exception:  # noqa: BLE001  # told whole; Python would end with 1, which means damage
        traceback.print_exc()
        code = UNFINISHED
    sys.exit(code)
