"""Exit codes: the one place that maps an error to a status and a message."""

from __future__ import annotations

import signal
from functools import cache
from typing import Final

import coord
from coord.cli import _printing, _talk
from coord.cli._signals import Interrupted
from coord.core.quoting import quoted

__all__ = ["CannotRun", "CannotWrite", "InUse", "OutputClosed", "explain", "status_of"]

DONE: Final = 0
FAILED: Final = 1
# With --exit-code: the call changed nothing.
NOT_FIRST: Final = 1
USAGE: Final = 2
PENDING: Final = 3
HISTORY_LOST: Final = 4
WARNINGS: Final = 5
LOST: Final = 5
CORRUPT: Final = 65
UNAVAILABLE: Final = 69
INTERNAL: Final = 70
CANNOT_WRITE: Final = 74
UNCONFIRMED: Final = 75
DENIED: Final = 77
TIMED_OUT: Final = 124
CANNOT_RUN: Final = 126
NOT_FOUND: Final = 127
# A signal ended us: the same status as a shell reports for a killed program.
HUNG_UP: Final = 128 + signal.SIGHUP
INTERRUPTED: Final = 128 + signal.SIGINT
QUIT: Final = 128 + signal.SIGQUIT
TERMINATED: Final = 128 + signal.SIGTERM
# The same for SIGPIPE, which would kill most other programs in this case.
OUTPUT_CLOSED: Final = 128 + signal.SIGPIPE


class CannotWrite(Exception):
    """Writing to standard output or to a file of ours failed (disk full, ...)."""


class InUse(Exception):
    """Another process uses a file that only one may use."""


class OutputClosed(Exception):
    """The reader of our standard output has closed it, as in ``coord watch mount | head -1``."""


class CannotRun(Exception):
    """CMD could not be run; ``status`` is 126, or 127 if it was not found."""

    def __init__(self, command: str, reason: str, status: int = CANNOT_RUN) -> None:
        super().__init__(f"{quoted(command)}: {reason}")
        self.status = status


@cache
def _statuses() -> tuple[tuple[type[Exception], int], ...]:
    """Return the errors and their codes; the first match wins."""
    # Built only when an error occurs: naming one imports Twisted, which takes longer than printing a help text.
    return (
        (coord.EventFailed, FAILED),
        (coord.InvalidInput, USAGE),
        (coord.NameReused, USAGE),
        (coord.WrongKind, USAGE),
        (coord.OtherGoal, USAGE),
        (coord.HistoryLost, HISTORY_LOST),
        (coord.HoldLost, LOST),
        (coord.CorruptRecord, CORRUPT),
        (coord.NewerLayout, CORRUPT),
        (coord.TimedOut, TIMED_OUT),
        (coord.Unconfirmed, UNCONFIRMED),
        (coord.NotReplicated, UNCONFIRMED),
        (coord.AccessDenied, DENIED),
        # Unreachable, ServerRefused, NoEmbeddedServer, Closed: no server applied it.
        (coord.Error, UNAVAILABLE),
        (InUse, UNAVAILABLE),
        (CannotWrite, CANNOT_WRITE),
        (OutputClosed, OUTPUT_CLOSED),
    )


def status_of(error: Exception) -> int:
    """Return the exit code of ``error``."""
    if isinstance(error, Interrupted):
        return 128 + error.signum
    if isinstance(error, CannotRun):
        return error.status
    return next((status for kind, status in _statuses() if isinstance(error, kind)), INTERNAL)


def explain(error: Exception) -> int:
    """Report the error on stderr, in one line; return its exit code."""
    status = status_of(error)
    if status == INTERNAL:
        _explain_internal(error)
    elif isinstance(error, coord.EventFailed):
        _talk.say(f"{quoted(error.key)} failed: {_printing.in_line(error.reason)}")
    elif not isinstance(error, Interrupted | OutputClosed):
        _talk.say(str(error), again=False)
    return status


def _explain_internal(error: Exception) -> None:
    _talk.say(f"internal error: {type(error).__name__}: {error}{_talk.debug_hint()}")
    if _talk.debugging():
        import traceback

        _talk.write("".join(traceback.format_exception(error)))
