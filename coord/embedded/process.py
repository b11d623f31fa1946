"""One run of the server's process: what it says, when it is ready, how it ended."""

from __future__ import annotations

import os
import re
import signal
from collections import deque
from typing import Any, Final

from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from coord.embedded.guard import CANNOT_RUN
from coord.errors import Error, NoEmbeddedServer, ServerRefused
from coord.link.one_shot import OneShot

__all__ = ["READY", "Run"]

# Redis writes "Ready" for a port, "The server is now ready" for a socket.
READY: Final = b"eady to accept connections"
# "4091:M 22 Nov 2026 16:38:20.195 # text": a pid and a role, a time, a level.
_STAMP: Final = re.compile(r"^\d+:\S+ .*?\d\)? ([.*#-]) ")
_NOISE: Final = (
    "WARNING ",
    "Reading config from stdin",
    "Reading the configuration file",
    "***",
    "Missing implement of connection type",  # Of a cluster's server that was built without TLS.
)


class Run(ProcessProtocol):
    """The server's process from its start to its end.

    ``ready`` becomes true when it accepts connections, false if it ends before that. ``ended``
    describes how it ended, and is set before ``ready``. ``asked`` is set before ending it on purpose.
    """

    def __init__(self, configuration: bytes, ready_words: bytes = READY) -> None:
        self.ready: OneShot[bool] = OneShot()
        self.ended: OneShot[str] = OneShot()
        self.asked = False
        self.was_ready = False
        self.cannot_run = False
        self._configuration = configuration
        self._ready_words = ready_words
        self._unfinished: dict[int, bytes] = {}
        self._said: deque[tuple[str, str]] = deque(maxlen=20)

    @property
    def pid(self) -> int | None:
        """The process's pid while it runs."""
        process: Any = self.transport
        return None if process is None else process.pid

    def connectionMade(self) -> None:
        """Write the configuration to the server's stdin."""
        process: Any = self.transport
        process.write(self._configuration)
        process.closeStdin()

    def childDataReceived(self, childFD: int, data: bytes) -> None:  # noqa: N803
        """Keep the last lines, and look for the one that says ready."""
        *lines, self._unfinished[childFD] = (self._unfinished.get(childFD, b"") + data).split(b"\n")
        for line in lines:
            self._hear(line)

    def processEnded(self, reason: Failure) -> None:
        """Report how it ended, once all its output has been read."""
        for line in self._unfinished.values():
            self._hear(line)
        status: Any = reason.value
        self.cannot_run = status.exitCode == CANNOT_RUN
        how = f"exit code {status.exitCode}" if status.signal is None else signal.Signals(status.signal).name
        # If it was killed, its last line says nothing of the cause; a crash comes with complaints.
        words = self._complaints() if status.signal is not None else self.last_words()
        self.ended.fire(f"the embedded server ended with {how}{f': {words}' if words else ''}")
        self.ready.fire(False)

    def send(self, *signals: signal.Signals) -> None:
        """Send signals to the server, if it still runs."""
        for number in signals:
            if (pid := self.pid) is not None:
                os.kill(pid, number)

    def kill(self) -> None:
        """Kill the server, and a child that it may have forked to rewrite its file."""
        if (pid := self.pid) is None:
            return
        try:
            os.killpg(pid, signal.SIGKILL)
        except ProcessLookupError:  # It has just started, without a group yet.
            os.kill(pid, signal.SIGKILL)

    def refusal(self) -> Error:
        """Return the error of the failed start."""
        if self.asked:
            return ServerRefused("the embedded server was stopped before it was ready")
        words = f"the embedded server did not start: {self.last_words()}"
        return NoEmbeddedServer(words) if self.cannot_run else ServerRefused(words)

    def last_words(self) -> str:
        """Return its last warnings, or else its last line."""
        return self._complaints() or "".join(text for _, text in list(self._said)[-1:]) or "no word"

    def _complaints(self) -> str:
        return "; ".join([text for level, text in self._said if level == "#"][-4:])

    def _hear(self, line: bytes) -> None:
        if self._ready_words in line:
            self.was_ready = True
            self.ready.fire(True)
        text = line.decode("utf-8", "replace").strip()
        stamp = _STAMP.match(text)
        text = text[stamp.end() :] if stamp else text
        if text and not text.startswith(_NOISE):
            # A line without a stamp is from stderr, which has only errors.
            self._said.append((stamp[1] if stamp else "#", text))
