"""Signals: those that end a command, and the dispositions that a process inherits.

Our own handler is installed first of all: as PID 1 of a container, a process is not killed by a
signal that it does not handle, and Python's own handler would answer an early Ctrl-C with a
traceback.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["ENDING", "Interrupted", "catch", "leave_at_once", "raise_if_wanted", "raised", "restore_defaults"]

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)

Handler = Callable[[int, FrameType | None], None]


class Interrupted(Exception):
    """A signal ended the command."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


def catch(signums: Iterable[int], handler: Handler) -> None:
    """Install ``handler`` for these signals, except those that our parent ignores (nohup, ``&``)."""
    for signum in signums:
        if signal.getsignal(signum) is not signal.SIG_IGN:
            signal.signal(signum, handler)


_raising = False


@contextmanager
def raised() -> Iterator[None]:
    """Within this block a signal that ends the command raises at once: use it around a blocking system call."""
    global _raising
    _raising = True
    try:
        yield
    finally:
        _raising = False


def raise_if_wanted(signum: int) -> None:
    """Raise `Interrupted` within `raised`, to interrupt a system call."""
    if _raising:
        raise Interrupted(signum)


def leave_at_once() -> None:
    """End the process: while no reactor runs, there is nothing to clean up."""
    catch(ENDING, lambda signum, _frame: os._exit(128 + signum))


def restore_defaults() -> None:
    """Restore the signals that Python changed, for the command that this process becomes.

    Python ignores SIGPIPE and SIGXFSZ. An exec resets handlers, but ignored signals stay ignored.
    """
    for name in ("SIGPIPE", "SIGXFSZ", "SIGXFZ"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
