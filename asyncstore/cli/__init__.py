"""The command line: parses and prints; what it does lives in the packages below."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the program with the arguments of the process, and end it with the exit code."""
    from asyncstore.cli.app import run

    sys.exit(run(sys.argv[1:]))
