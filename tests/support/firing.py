"""Processes that fire what they are told, all at once: `python firing.py URL COUNT`.

A key a line comes in, and goes to each; from each comes `NAME ready`, and then `NAME 1` or `NAME 0` (first or not).
They are forks of one process, which has loaded what can be loaded before there is a reactor: that is most of what a
node's start takes.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any

import coord

_LOADED_BEFORE = ("twisted.internet.epollreactor", "twisted.internet.ssl", "twisted.internet.stdio", "hiredis")


def fire(url: str, name: str) -> None:
    """Be one of them, until stdin ends."""
    from twisted.internet import reactor as _reactor
    from twisted.internet import stdio
    from twisted.internet.defer import Deferred
    from twisted.protocols.basic import LineReceiver

    reactor: Any = _reactor
    standard_io: Any = stdio.StandardIO
    node = coord.connect(url, node=name)

    class Firing(LineReceiver):
        delimiter = b"\n"

        def connectionMade(self) -> None:
            node.connected().addCallback(lambda _: self.say("ready"))

        def lineReceived(self, line: bytes) -> None:
            Deferred.fromCoroutine(self.fire(line.decode()))

        def connectionLost(self, _: Any = None) -> None:
            node.close().addBoth(lambda _: reactor.stop())

        async def fire(self, key: str) -> None:
            applied = await node.events("m").fire(key, node.node)
            self.say(f"{applied.first:d}")

        def say(self, word: str) -> None:
            # Past the reactor, in one piece: all write to one pipe.
            os.write(1, f"{name} {word}\n".encode())

    standard_io(Firing(), stdout=os.open(os.devnull, os.O_WRONLY))
    reactor.run()


def main(url: str, count: int) -> None:
    """Make them, and pass on what comes in."""
    for module in _LOADED_BEFORE:
        import_module(module)
    assert "twisted.internet.reactor" not in sys.modules, "each is to have a reactor of its own"
    inputs: list[int] = []
    for number in range(count):
        read_end, write_end = os.pipe()
        if not os.fork():
            os.dup2(read_end, 0)
            for each in (read_end, write_end, *inputs):
                os.close(each)
            fire(url, f"p{number}")
            return
        os.close(read_end)
        inputs.append(write_end)
    for line in sys.stdin.buffer:
        for each in inputs:
            os.write(each, line)
    for each in inputs:
        os.close(each)
    for _ in inputs:
        os.wait()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
