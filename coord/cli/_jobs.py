"""Job control: coord and the command that it runs stop together, and go on together, as one job of the user's shell.

The command has a process group of its own, so what the terminal sends to coord's group does not reach it, and the other
way round. What stops one of the two is passed on to the other here.
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

# How long a command may take to stop when it is asked to; one that does not want to is not asked again.
_PATIENCE: Final = 0.5
_WANTS_TERMINAL: Final = (signal.SIGTTIN, signal.SIGTTOU)
# What a terminal's keys and its end do to the command that has it. coord would have got them instead.
_BY_TERMINAL: Final = (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)


class JobControl:
    """Lends the terminal to one command after the other, and keeps it in step with coord."""

    def __init__(self, reactor: Any, name: str) -> None:
        """Begin; ``name`` is what the command is called in sentences."""
        self._reactor = reactor
        self._name = name
        self._terminal = Terminal()
        self._command: GuardedCommand | None = None
        self._asked_to_stop = False
        self._resumed = False
        _signals.catch([signal.SIGTSTP], self._on_stop_signal)
        _signals.catch([signal.SIGCONT], self._on_continue_signal)

    def begin(self, command: GuardedCommand) -> bool:
        """A command is about to begin; return whether the terminal is for it to take."""
        self._command = command
        self._asked_to_stop = False
        lends = self._terminal.is_ours_to_lend
        if lends:
            self._terminal.lend()
        return lends

    def end(self) -> None:
        """The command has ended, or was ended."""
        self._command = None
        self._terminal.take_back()

    def judge(self, status: int) -> int:
        """Return the command's exit code; raise `Interrupted` if it ended by a key that is for coord as well."""
        was_lent = self._terminal.lent
        self._terminal.take_back(restore=status > 128)
        if was_lent and status - 128 in _BY_TERMINAL:
            raise Interrupted(status - 128)
        return status

    def on_stop(self, signum: int) -> None:
        """The command was stopped: stop, too, if a shell is there to continue us."""
        asked, self._asked_to_stop = self._asked_to_stop, False
        if signum in _WANTS_TERMINAL:
            say(f"{self._name} was stopped, because it wants the terminal; in the foreground (fg) it can have it")
        elif not (asked or self._terminal.lent or signum == signal.SIGTSTP):
            say(f"{self._name} was stopped by {signal.Signals(signum).name}; SIGCONT lets it go on")
            return
        if self._terminal.exists:
            self._terminal.take_back()
            # The others of our job, too: the terminal's key has stopped the command alone.
            self._stop(signal.SIGTSTP if signum == signal.SIGSTOP else signum, os.getpgrp())

    def _stop(self, signum: int, group: int) -> None:
        """Stop, by a signal that does nothing if no shell would continue us; after that go on."""
        self._resumed = False
        before = signal.signal(signum, signal.SIG_DFL)
        os.killpg(group, signum) if group else os.kill(os.getpid(), signum)
        signal.signal(signum, before)
        # What was stopped for want of the terminal would be so again, at once, if we have not been stopped.
        if self._resumed or self._terminal.is_ours_to_lend:
            self._go_on()

    def _go_on(self) -> None:
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
        self._reactor.callFromThread(self._go_on)
