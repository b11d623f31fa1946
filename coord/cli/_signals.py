"""Signals: what ends a command, and what a process inherits.

A handler of our own is there from the first moment: as PID 1 of a container a process is not killed
by a signal that it does not handle, and Python's own handler would greet an impatient Ctrl-C with a
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
    """Let ``handler`` have these signals, but for what our parent wants ignored (nohup, ``&``)."""
    for signum in signums:
        if signal.getsignal(signum) is not signal.SIG_IGN:
            signal.signal(signum, handler)


_raising = False


@contextmanager
def raised() -> Iterator[None]:
    """Within this a signal that ends the command is raised at once: for a call of the system that may block."""
    global _raising
    _raising = True
    try:
        yield
    finally:
        _raising = False


def raise_if_wanted(signum: int) -> None:
    """Raise `Interrupted`, if a call of the system is to be broken off."""
    if _raising:
        raise Interrupted(signum)


def leave_at_once() -> None:
    """While no reactor runs there is nothing to put in order: a signal just ends the process."""
    catch(ENDING, lambda signum, _frame: os._exit(128 + signum))


def restore_defaults() -> None:
    """Give back what Python took, for the command that this process becomes.

    Python ignores SIGPIPE and SIGXFSZ, and what is ignored stays so through an exec; handlers do
    not.
    """
    for name in ("SIGPIPE", "SIGXFSZ", "SIGXFZ"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
