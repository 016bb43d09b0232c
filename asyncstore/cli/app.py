"""The program itself: finds its commands, and turns each failure that can be foreseen into a line and an exit code."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from importlib import import_module

import click

from asyncstore import __version__
from asyncstore.cli.failures import INTERRUPTED, PIPE_CLOSED, exit_code, failure_lines, printable

COMMANDS = ("check", "get", "ls", "put", "quickstart")


class LazyGroup(click.Group):
    """Imports a command's file when it is asked for, so that each starts with only what it needs."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click passes it
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  # click passes it
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"asyncstore.cli.{cmd_name}").command
        return command

    def invoke(self, ctx: click.Context) -> object:
        # Both are answered here, since click would answer them with codes that mean something else.
        try:
            result: object = super().invoke(ctx)
            sys.stdout.flush()
        except KeyboardInterrupt:
            click.echo("asyncstore: interrupted", err=True)
            raise click.exceptions.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            # Nobody reads on, as in `asyncstore ls … | head`. Python would complain when it flushes at the end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise click.exceptions.Exit(PIPE_CLOSED) from None
        return result


class StderrHandler(logging.Handler):
    """Says on stderr what the library logs: each wait before another attempt, for one."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(f"asyncstore: {printable(record.getMessage())}", err=True)


@click.command(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""
    \b
    A URL is a directory, file:///DIRECTORY or s3://BUCKET/PREFIX.
    Exit codes: 0 done, 1 damage found, 2 wrong usage, 3 could not finish.

    \b
    Examples:
      asyncstore quickstart
      asyncstore put results/ --to /srv/store --json > results.jsonl
      asyncstore get --manifest results.jsonl --from /srv/store --output restored
      asyncstore check ~/project/.metaflow
    """,
)
@click.version_option(__version__, prog_name="asyncstore", message="%(prog)s %(version)s")
def program() -> None:
    """Keep files and artifacts by their content, where Metaflow finds them."""


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; says on stderr why it is not 0."""
    logger = logging.getLogger("asyncstore")
    handler = StderrHandler(logging.WARNING)
    logger.addHandler(handler)
    try:
        code = program.main(list(arguments), prog_name="asyncstore", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except Exception as error:  # what cannot be foreseen goes on, with its traceback
        lines = failure_lines(error)
        if not lines:
            raise
        for line in lines:
            click.echo(f"asyncstore: {line}", err=True)
        return exit_code(error)
    finally:
        logger.removeHandler(handler)
    return code if isinstance(code, int) else 0
