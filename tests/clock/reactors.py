"""Reactors of a test's own, whose wall clock the test sets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from coord.clock import steady

__all__ = ["KINDS", "made", "run"]

T = TypeVar("T")
Body = Callable[[Any], Coroutine[Any, Any, T]]

KINDS = ("epoll", "select", "poll", "asyncio")
_CLASSES = {"epoll": "EPollReactor", "select": "SelectReactor", "poll": "PollReactor"}
_PATIENCE = 20.0


@contextmanager
def made(kind: str) -> Iterator[Any]:
    """Give a reactor that is closed afterwards; ``reactor.step(seconds)`` sets its wall clock."""
    loop = None
    module = import_module(f"twisted.internet.{kind}reactor")
    if kind == "asyncio":
        loop = asyncio.new_event_loop()
        reactor = module.AsyncioSelectorReactor(loop)
    else:
        reactor = getattr(module, _CLASSES[kind])()
    seconds, off = reactor.seconds, [0.0]
    reactor.seconds = lambda: seconds() + off[0]
    reactor.step = lambda by: off.__setitem__(0, off[0] + by)
    try:
        yield reactor
    finally:
        for reader in reactor.removeAll():
            reader.connectionLost(Failure(ConnectionError("the reactor is over")))
        if loop is not None:
            loop.close()
        elif hasattr(reactor, "_poller") and hasattr(reactor._poller, "close"):
            reactor._poller.close()


def run(reactor: Any, body: Body[T]) -> T:
    """Return what ``body(clock)`` returns, or raise what it raises."""
    results: list[Any] = []
    clock = steady(reactor)

    def begin() -> None:
        Deferred.fromCoroutine(body(clock)).addBoth(results.append).addBoth(lambda _: reactor.crash())

    def give_up() -> None:
        results.append(Failure(AssertionError("it never ended")))
        reactor.crash()

    reactor.callWhenRunning(begin)
    patience = clock.callLater(_PATIENCE, give_up)
    reactor.run(installSignalHandlers=False)
    if patience.active():
        patience.cancel()
    if isinstance(results[0], Failure):
        results[0].raiseException()
    return results[0]  # type: ignore[no-any-return]
