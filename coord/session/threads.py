"""The thread of a reactor: Twisted's Deferreds, and all of coord, belong to it."""

from __future__ import annotations

import sys
from threading import get_ident
from typing import Any

from twisted.python import threadable

from coord.clock import SteadyClock

__all__ = ["ReactorThread"]


class ReactorThread:
    """The one thread in which a node may be used: that of its reactor, or until that runs, the one that made the node.

    ``ident`` is its number, for a quick comparison before `check`. A ``task.Clock`` runs in no thread, so its nodes
    belong to the one that made them. ``ran`` says that the reactor has run since.

    :raises RuntimeError: the reactor runs in another thread than this one.
    """

    def __init__(self, clock: Any) -> None:
        self.ident = get_ident()
        self.ran = True
        if not isinstance(clock, SteadyClock):
            return
        if not clock.running:
            self.ran = False
            clock.callWhenRunning(self.note)
            # A loop under the reactor may also be run without starting the reactor.
            clock.call_soon(self.note)
        elif clock.reactor is sys.modules.get("twisted.internet.reactor") and not threadable.isInIOThread():
            # Twisted notes one thread, that of the reactor which was started last: usually the global one.
            self.refuse()

    def note(self) -> None:
        """Take this thread for the reactor's: the reactor has called us."""
        self.ident = get_ident()
        self.ran = True

    def check(self) -> None:
        """Raise `RuntimeError` in any other thread."""
        if get_ident() == self.ident:
            return
        if self.ran or not threadable.isInIOThread():
            self.refuse()
        # The reactor has begun to run, and has not called `note` yet.
        self.note()

    def refuse(self) -> None:
        """Raise `RuntimeError`."""
        raise RuntimeError(
            "this is not the reactor's thread: in another one, while the reactor runs, call coord by "
            "twisted.internet.threads.blockingCallFromThread(reactor, FUNCTION, ...)"
        )
