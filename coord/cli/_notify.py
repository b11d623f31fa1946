"""What a service manager such as systemd is told: that we are ready, what we do, and that the reactor still turns.

It listens on the socket that NOTIFY_SOCKET names (sd_notify(3)). Without that variable nothing is sent.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from coord.cli._talk import clean

if TYPE_CHECKING:
    from coord import LinkState

__all__ = ["OURS", "Supervisor", "begin_watchdog", "tell"]

OURS: Final[dict[str, str | None]] = dict.fromkeys(("NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"))
"""The variables that are for coord alone: a command that runs beside it is another process."""


def tell(*lines: str) -> None:
    """Send these lines, such as ``READY=1``, to the service manager, if there is one; never raises, never blocks."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address[:1] not in ("/", "@"):
        return
    import socket

    # An abstract socket: its name begins with a NUL.
    path = f"\0{address[1:]}" if address[0] == "@" else address
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as wire:
        wire.setblocking(False)
        wire.sendto("\n".join(lines).encode(errors="replace"), os.fsencode(path))


def begin_watchdog(reactor: Any) -> None:
    """From now on, tell the watchdog of the service manager in time that the reactor turns, if it wants to know."""
    interval = os.environ.get("WATCHDOG_USEC", "")
    if not interval.isdecimal() or os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return
    from twisted.internet.task import LoopingCall

    calling = LoopingCall(tell, "WATCHDOG=1")
    calling.clock = reactor
    calling.start(max(0.01, int(interval) / 2e6))


class Supervisor:
    """Shows the service manager what a command does, and the state of its link.

    :param server: its address.
    """

    def __init__(self, server: str) -> None:
        self._doing = f"connecting to {server}"

    def ready(self, doing: str) -> None:
        """Say that the start is over, and what we do now."""
        tell("READY=1", self._status(doing))

    def doing(self, doing: str) -> None:
        """Say what we do now."""
        tell(self._status(doing))

    def link_changed(self, state: LinkState, reason: str) -> None:
        """Say that there is no link, or that there is one again."""
        if state != "closed":
            trouble = "" if state == "connected" else f"; no server: {_line(reason)}"
            tell(f"STATUS={_line(self._doing)}{trouble}")

    def _status(self, doing: str) -> str:
        self._doing = doing
        return f"STATUS={_line(doing)}"


def _line(text: str) -> str:
    """Return a text without passwords and ends of lines, which separate what is sent."""
    return clean(" ".join(text.split("\n")))
