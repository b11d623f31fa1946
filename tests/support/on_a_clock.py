"""A node that is told what to do line by line: `python on_a_clock.py URL REACTOR`.

It says `link STATE`, `waiting` and `ended SECONDS ERROR` of a wait, and `fired` of a call, by a clock that libfaketime
leaves alone; `time` has it say the wall clock's.
"""

from __future__ import annotations

import sys
import time
from importlib import import_module
from typing import Any

HEARTBEAT = 0.5


def main(url: str) -> None:
    """Be the node until stdin ends."""
    from twisted.internet import reactor, stdio
    from twisted.protocols.basic import LineOnlyReceiver
    from twisted.python.failure import Failure

    import coord

    running: Any = reactor

    class Node(LineOnlyReceiver):
        delimiter = b"\n"

        def connectionMade(self) -> None:
            node = self.node = coord.connect(url, heartbeat=HEARTBEAT)
            node.on_link(lambda state, _: self.say(f"link {state}"))

        def lineReceived(self, line: bytes) -> None:
            word, *rest = line.decode().split()
            getattr(self, word)(*rest)

        def wait(self, seconds: str) -> None:
            began = time.monotonic()
            waiting = self.node.events("m").wait("never", timeout=float(seconds))

            def ended(failure: Failure) -> None:
                self.say(f"ended {time.monotonic() - began:.3f} {type(failure.value).__name__}")

            waiting.addErrback(ended)
            self.say("waiting")

        def fire(self, key: str) -> None:
            self.node.events("m").fire(key).addCallback(lambda _: self.say("fired"))

        def time(self) -> None:
            self.say(f"time {time.time():.3f}")

        def say(self, line: str) -> None:
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()

        def connectionLost(self, reason: object) -> None:  # type: ignore[override]
            self.node.close().addBoth(lambda _: running.stop())

    stdio.StandardIO(Node())
    running.run()


if __name__ == "__main__":
    import_module(f"twisted.internet.{sys.argv[2]}reactor").install()
    main(sys.argv[1])
