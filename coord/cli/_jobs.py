"""Job control: coord and the command that it runs stop and continue together, as one job of the user's shell.

The command has a process group of its own, so the terminal's signals to coord's group do not reach it, and vice versa.
This module passes the signals that stop one of the two on to the other.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any, Final

from coord.cli import _signals
from coord.cli._signals import Interrupted
from coord.cli._talk import say
from coord.cli._terminal import Terminal

if TYPE_CHECKING:
    from types import FrameType

    from coord.cli._guarded import GuardedCommand

__all__ = ["JobControl"]

# Seconds that a command may take to stop on SIGTSTP, before it gets SIGSTOP.
_PATIENCE: Final = 0.5
_WANTS_TERMINAL: Final = (signal.SIGTTIN, signal.SIGTTOU)
# Signals from the terminal's keys and its end to the command that has it; without the command, coord gets them.
_BY_TERMINAL: Final = (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)


class JobControl:
    """Lends the terminal to one command after the other, and stops and continues it together with coord."""

    def __init__(self, reactor: Any, name: str) -> None:
        """Catch the signals of job control; ``name`` is the command's name in messages."""
        self._reactor = reactor
        self._name = name
        self._terminal = Terminal()
        self._command: GuardedCommand | None = None
        self._asked_to_stop = False
        self._resumed = False
        _signals.catch([signal.SIGTSTP], self._on_stop_signal)
        _signals.catch([signal.SIGCONT], self._on_continue_signal)

    def begin(self, command: GuardedCommand) -> bool:
        """Prepare for a command that is about to start; return whether it may take the terminal."""
        self._command = command
        self._asked_to_stop = False
        lends = self._terminal.is_ours_to_lend
        if lends:
            self._terminal.lend()
        return lends

    def end(self) -> None:
        """Take the terminal back after the command has ended."""
        self._command = None
        self._terminal.take_back()

    def close(self) -> None:
        """Let go of the terminal."""
        self._terminal.close()

    def judge(self, status: int) -> int:
        """Return the command's exit code; raise `Interrupted` if a terminal key ended it: it is for coord too."""
        was_lent = self._terminal.lent
        self._terminal.take_back(restore=status > 128)
        if was_lent and status - 128 in _BY_TERMINAL:
            raise Interrupted(status - 128)
        return status

    def on_stop(self, signum: int) -> None:
        """The command was stopped: stop too, if a shell can continue us."""
        asked, self._asked_to_stop = self._asked_to_stop, False
        if signum in _WANTS_TERMINAL:
            if self._terminal.is_ours_to_lend:
                # A shell's `fg` gave it to us: it sends no SIGCONT to a job that `bg` has continued.
                self._go_on()
                return
            say(f"{self._name} was stopped because it wants the terminal; bring coord to the foreground (fg)")
        elif not (asked or self._terminal.lent or signum == signal.SIGTSTP):
            say(f"{self._name} was stopped by {signal.Signals(signum).name}; SIGCONT continues it")
            return
        if self._terminal.exists:
            self._terminal.take_back()
            # Stop the other processes of our job too: the terminal's key has stopped only the command.
            self._stop(signal.SIGTSTP if signum == signal.SIGSTOP else signum, os.getpgrp())

    def _stop(self, signum: int, group: int) -> None:
        """Stop, by a signal that the kernel ignores if no shell could continue us; then continue."""
        self._resumed = False
        before = signal.signal(signum, signal.SIG_DFL)
        os.killpg(group, signum) if group else os.kill(os.getpid(), signum)
        signal.signal(signum, before)
        # If we were not stopped, a command that wants the terminal would be stopped again at once.
        if self._resumed or self._terminal.is_ours_to_lend:
            self._go_on()

    def _go_on(self) -> None:
        self._resumed = False
        command = self._command
        if command is not None and command.pid is not None:
            if self._terminal.is_ours_to_lend:
                self._terminal.lend(command.pid)
            command.signal(signal.SIGCONT)

    def _on_stop_signal(self, signum: int, _frame: FrameType | None) -> None:
        if self._command is None:
            self._stop(signum, 0)
            return
        self._asked_to_stop = True
        self._command.signal(signum)
        self._reactor.callFromThread(self._reactor.callLater, _PATIENCE, self._insist)

    def _insist(self) -> None:
        if self._asked_to_stop and self._command is not None:
            self._command.signal(signal.SIGSTOP)

    def _on_continue_signal(self, _signum: int, _frame: FrameType | None) -> None:
        self._resumed = True
        self._reactor.callFromThread(self._go_on_once)

    def _go_on_once(self) -> None:
        # `_stop` has done it already if it was what this signal ended. A second SIGCONT would continue a command that
        # Ctrl-Z has stopped since.
        if self._resumed:
            self._go_on()
