"""Commands that are run: the one that this process becomes, and those that `on` runs."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO, NoReturn

from twisted.internet import process
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater

from coord.cli import _signals, _talk
from coord.cli._exits import NOT_FOUND, CannotRun

__all__ = ["Child", "become", "reap_orphans"]

_LOOK_AGAIN = 0.05
_NO_SIGNAL = 0


def become(argv: tuple[str, ...], variables: Mapping[str, str | None]) -> NoReturn:
    """Turn this process into ``argv``; raise `CannotRun`. A variable that is `None` is not in its environment."""
    if sys.stdout is not None:
        sys.stdout.flush()
    _talk.finish()
    _signals.restore_defaults()
    environment = _with(variables)
    try:
        os.execvpe(argv[0], argv, environment)  # noqa: S606 - the user's own command
    except OSError as error:
        raise _cannot_run(argv, variables, error) from None


def _with(variables: Mapping[str, str | None]) -> dict[str, str]:
    """Return our environment with these variables, and without those that are `None`."""
    return {name: value for name, value in {**os.environ, **variables}.items() if value is not None}


def _cannot_run(argv: Sequence[str], variables: Mapping[str, str | None], error: OSError) -> CannotRun:
    if error.errno == errno.ENOENT:
        # A script whose interpreter is missing looks the same to the system.
        found = os.sep in argv[0] and os.path.lexists(argv[0])
        why = "its interpreter, or what it links to, is not there" if found else "command not found"
        return CannotRun(argv[0], why, NOT_FOUND)
    if error.errno == errno.E2BIG:
        sizes = {name: len(os.fsencode(value)) for name, value in variables.items() if value is not None}
        longest = max(sizes, key=lambda name: sizes[name])
        size = sizes[longest]
        return CannotRun(
            argv[0],
            f"the environment does not fit: {longest} has {size} bytes, where Linux takes 128 KiB"
            " with the name, and not much more for all of it",
        )
    return CannotRun(argv[0], error.strerror or str(error))


class Child:
    """A running command, first of a process group of its own, with ``data`` on its stdin."""

    def __init__(self, reactor: Any, argv: Sequence[str], variables: Mapping[str, str | None], data: bytes) -> None:
        """Start it; raise `CannotRun`. A variable that is `None` is not in its environment."""
        self._reactor = reactor
        self.ended: Deferred[int] = Deferred()
        with _file_of(data) as stdin:
            try:
                # A group of its own, so that it can be ended with all that it started.
                self._popen = subprocess.Popen(argv, stdin=stdin, env=_with(variables), process_group=0)  # noqa: S603
            except OSError as error:
                raise _cannot_run(argv, variables, error) from None
        process.registerReapProcessHandler(self._popen.pid, self)

    def reapProcess(self) -> None:
        """See whether it has ended: Twisted calls this on every SIGCHLD."""
        pid, status = os.waitpid(self._popen.pid, os.WNOHANG)
        if pid:
            process.unregisterReapProcessHandler(pid, self)
            self.processEnded(status)

    def processEnded(self, status: int) -> None:
        """Tell who waits that it has ended; ``status`` is what ``waitpid`` says."""
        code = os.waitstatus_to_exitcode(status)
        self._popen.returncode = code
        # One that was quick has ended while it was registered, before anybody could ask for `ended`.
        self.ended.callback(code if code >= 0 else 128 - code)

    def signal(self, signum: int) -> bool:
        """Send a signal to its group; return whether anybody is left there."""
        try:
            os.killpg(self._popen.pid, signum)
        except ProcessLookupError:
            return False
        except PermissionError:
            # Somebody in it became another user (or, on macOS, is a zombie).
            return True
        return True

    async def end(self, grace: float) -> None:
        """End its group with SIGTERM.

        Who is still there after ``grace`` seconds, or when this is cancelled, gets SIGKILL.
        """
        self.signal(signal.SIGTERM)
        # One that was stopped hears nothing else.
        self.signal(signal.SIGCONT)
        deadline = self._reactor.seconds() + grace
        try:
            while self.signal(_NO_SIGNAL) and self._reactor.seconds() < deadline:
                await deferLater(self._reactor, _LOOK_AGAIN)
        except CancelledError:
            pass
        # Asked again, because the number of a group that has ended may be somebody else's.
        if self.signal(_NO_SIGNAL):
            self.signal(signal.SIGKILL)


def _file_of(data: bytes) -> BinaryIO:
    """Return a nameless file that holds ``data``, to be read from its start.

    No pipe: a command that does not read its input must not hold us up, nor one that closes it
    break us.
    """
    file: BinaryIO
    if hasattr(os, "memfd_create"):  # also where no directory can be written to
        file = os.fdopen(os.memfd_create("record"), "w+b", buffering=0)
    else:
        file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - the caller's to close
    file.write(data)
    file.seek(0)
    return file


def reap_orphans() -> None:
    """Collect every child that has ended and is nobody's.

    As PID 1 we get those whose parents have gone.
    """
    while True:
        try:
            # Looked at, not taken: the status of our own children belongs to who started them.
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if ended is None:
            return
        if ended.si_pid in process.reapProcessHandlers:
            process.reapAllProcesses()
        else:
            os.waitpid(ended.si_pid, os.WNOHANG)
