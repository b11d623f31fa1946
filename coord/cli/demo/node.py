"""One node of ``coord demo``: ``python -m coord.cli.demo.node URL NAME``.

It reads commands from its standard input and writes reports to its standard output, both as lines of
JSON. It ends when its standard input closes, so it never outlives the demo.
"""

from __future__ import annotations

import json
import signal
import sys
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet import stdio
from twisted.internet.defer import Deferred
from twisted.internet.protocol import connectionDone
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure

import coord
from coord.clock import steady

reactor: Any = steady(_reactor)


class DemoNode(LineOnlyReceiver):
    """A coordinator, controlled by lines: ``{"id", "do", "key", "value"}``."""

    delimiter = b"\n"

    def __init__(self, url: str, name: str) -> None:
        # Short times, so that a dead node's events end while the user looks.
        self._coordinator = coord.connect(url, node=name, namespace="demo", heartbeat=0.9, lease=3.0, grace=2.0)
        self._events = self._coordinator.events("demo")

    def connectionMade(self) -> None:
        """Report every change of the link."""
        self._coordinator.on_link(lambda state, _reason: self._tell(link=state))
        self._tell(link=self._coordinator.link)

    def lineReceived(self, line: bytes) -> None:
        """Run one command."""
        order = json.loads(line)
        number, key = order["id"], order.get("key")
        if order["do"] == "wait":
            self._wait(number, key)
        elif order["do"] == "hold":
            self._call(number, self._events.hold(key, order["value"]))
        elif order["do"] == "elect":
            self._elect(number, key, order["value"])
        elif order["do"] == "gone":
            self._record(number, self._events.gone(key))
        elif order["do"] == "record":
            self._record(number, self._events.record(key))
        else:
            self._call(number, getattr(self._events, order["do"])(key, order["value"]))

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: ARG002 - Twisted's
        """End: the demo has closed our standard input."""
        reactor.crash()

    def _wait(self, number: int, key: str) -> None:
        began = reactor.seconds()

        def milliseconds() -> float:
            return (reactor.seconds() - began) * 1000  # type: ignore[no-any-return]

        def failed(failure: Failure) -> None:
            self._tell(id=number, failed=getattr(failure.value, "reason", str(failure.value)), took=milliseconds())

        # The API that the demo shows.
        event = self._events[key]
        at_once = event.called
        event.addCallback(lambda value: self._tell(id=number, called=value, at_once=at_once, took=milliseconds()))
        event.addErrback(failed)
        self._events.armed().addCallbacks(lambda _: self._tell(id=number, armed=True), lambda _: None)

    def _elect(self, number: int, key: str, value: object) -> None:
        self._events.elect(key, value).addCallbacks(
            lambda lock: self._tell(id=number, token=lock.token),
            lambda failure: self._tell(id=number, refused=str(failure.value)),
        )

    def _record(self, number: int, asked: Deferred[coord.Record | None]) -> None:
        asked.addCallbacks(
            lambda record: self._tell(id=number, kind=record and record.kind, value=record and record.value),
            lambda failure: self._tell(id=number, refused=str(failure.value)),
        )

    def _call(self, number: int, outcome: Deferred[Any]) -> None:
        outcome.addCallbacks(
            lambda applied: self._tell(id=number, first=applied.first),
            lambda failure: self._tell(id=number, refused=str(failure.value)),
        )

    def _tell(self, **report: object) -> None:
        stdout: Any = self.transport
        if stdout is not None:
            stdout.write(json.dumps(report).encode() + b"\n")


def main() -> None:
    """Run the node."""
    # Ctrl-C reaches every process of the terminal, but the demo ends its nodes itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    stdio.StandardIO(DemoNode(*sys.argv[1:]))
    reactor.run()


if __name__ == "__main__":
    main()
