"""What is asked once for many clients, and what only so many may ask at once."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Hashable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from coord.link.one_shot import OneShot
from coord.web.gateway import Gateway
from coord.web.limits import Quota

__all__ = ["Memo", "taken"]

T = TypeVar("T")


class Memo(Generic[T]):
    """Answers that serve all who ask for the same within some ``seconds``; errors are not kept.

    A client that hangs up ends nobody else's question.
    """

    def __init__(self, gateway: Gateway, seconds: float) -> None:
        self._clock = gateway.clock
        self._seconds = seconds
        self._kept: dict[Hashable, tuple[float, OneShot[T]]] = {}

    def get(self, what: Hashable, ask: Callable[[], Coroutine[Any, Any, T]]) -> Deferred[T]:
        """Return the answer to ``what``, which ``ask`` gets if there is none."""
        now = self._clock.seconds()
        self._kept = {each: kept for each, kept in self._kept.items() if now < kept[0]}
        kept = self._kept.get(what)
        if kept is None:
            shot: OneShot[T] = OneShot()
            kept = self._kept[what] = (now + self._seconds, shot)
            Deferred.fromCoroutine(ask()).addBoth(self._answered, what, shot)
        return kept[1].wait()

    def _answered(self, result: T | Failure, what: Hashable, shot: OneShot[T]) -> None:
        if not isinstance(result, Failure):
            shot.fire(result)
            return
        self._kept.pop(what, None)
        error = result.value
        if not isinstance(error, Exception):
            result.raiseException()
        shot.fire(error)


@contextmanager
def taken(quota: Quota, name: str, count: int = 1) -> Iterator[None]:
    """Take some of a quota for a block; raise the `Problem` 429 if there are not so many left."""
    give_back = quota.take(name, count)
    try:
        yield
    finally:
        give_back()
