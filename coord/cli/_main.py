"""From argv to an exit status."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import NoReturn

import click

from coord.cli import _exits, _talk, _usage
from coord.cli._commands import coord as group

__all__ = ["Stdout", "run", "status_of"]


def run() -> NoReturn:
    """Run the command in ``sys.argv`` and exit with its status."""
    _fill_standard_descriptors()
    _wrap_stdout()
    _leave(status_of(sys.argv[1:]))


def _fill_standard_descriptors() -> None:
    # If our parent closed one, the next file or socket would get its number, and receive what we print.
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


class Stdout(io.TextIOWrapper):
    """Standard output for help texts and the like: in UTF-8, with errors that have their own exit codes."""

    def write(self, text: str) -> int:
        """Print ``text``; raise `OutputClosed` or `CannotWrite`."""
        with _explained():
            return super().write(text)

    def flush(self) -> None:
        """Write what was printed; raise `OutputClosed` or `CannotWrite`."""
        with _explained():
            super().flush()


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise _exits.OutputClosed from None
    except OSError as error:
        raise _exits.CannotWrite(f"standard output: {error.strerror}") from None


def _wrap_stdout() -> None:
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Replace both, because the terminal's width is read from sys.__stdout__.
        sys.stdout = Stdout(sys.stdout.detach(), encoding="utf-8", errors="backslashreplace")
        sys.__stdout__ = sys.stdout  # type: ignore[misc]


def status_of(argv: Sequence[str]) -> int:
    """Run one command line; return its exit status. Errors are reported on stderr."""
    _talk.begin()
    if "_COORD_COMPLETE" in os.environ:
        from coord.cli import _completing

        _completing.register()
    try:
        status = group.main(args=list(argv), prog_name="coord", standalone_mode=False)
    except SystemExit as leaving:
        # click exits after completing a word, and when the reader of a help text has gone.
        return _exits.OUTPUT_CLOSED if leaving.code else _exits.DONE
    except click.exceptions.Abort:
        return _exits.INTERRUPTED
    except click.ClickException as error:
        return _show(error)
    except Exception as error:  # noqa: BLE001 - no traceback may reach the shell
        return _exits.explain(error)
    return status if isinstance(status, int) else _exits.DONE


def _show(error: click.ClickException) -> int:
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        _talk.write(f"{error.format_message()}\n")
    else:
        _talk.say(_usage.sentence(error))
    return error.exit_code


def _leave(status: int) -> NoReturn:
    # The error was reported already.
    with suppress(_exits.CannotWrite, _exits.OutputClosed):
        if sys.stdout is not None:
            sys.stdout.flush()
    _talk.finish()
    # Skip the interpreter's shutdown: it takes longer than most calls, waits for a thread with a hanging host name
    # look-up, and reports output that could not be written a second time.
    os._exit(status)
