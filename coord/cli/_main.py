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
    """Run the command in ``sys.argv`` and leave with its exit status."""
    _fill_standard_descriptors()
    _wrap_stdout()
    _leave(status_of(sys.argv[1:]))


def _fill_standard_descriptors() -> None:
    # Where our parent closed one, the next file or socket would take its place, and get what is printed.
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


class Stdout(io.TextIOWrapper):
    """Where help texts and the like are printed: in UTF-8, and with errors that have an exit code of their own."""

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
        # Both, for the second is asked for the terminal's width.
        sys.stdout = Stdout(sys.stdout.detach(), encoding="utf-8", errors="backslashreplace")
        sys.__stdout__ = sys.stdout  # type: ignore[misc]


def status_of(argv: Sequence[str]) -> int:
    """Run one command line; return its exit status. What goes wrong has been said on stderr."""
    _talk.begin()
    try:
        status = group.main(args=list(argv), prog_name="coord", standalone_mode=False)
    except SystemExit as leaving:
        # What click does when it has completed a word, and with a help text that nobody reads.
        return _exits.OUTPUT_CLOSED if leaving.code else _exits.DONE
    except click.exceptions.Abort:
        return _exits.INTERRUPTED
    except click.ClickException as error:
        return _show(error)
    except Exception as error:  # noqa: BLE001 - the last one before the shell: no traceback may pass
        return _exits.explain(error)
    return status if isinstance(status, int) else _exits.DONE


def _show(error: click.ClickException) -> int:
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        _talk.write(f"{error.format_message()}\n")
    else:
        _talk.say(_usage.sentence(error))
    return error.exit_code


def _leave(status: int) -> NoReturn:
    # What cannot be written has been said.
    with suppress(_exits.CannotWrite, _exits.OutputClosed):
        if sys.stdout is not None:
            sys.stdout.flush()
    _talk.finish()
    # Not through the interpreter's end: to take down a thousand modules takes longer than most calls, and it would wait
    # for a thread in which the look-up of a host name hangs, or would complain of what could not be written.
    os._exit(status)
