"""A plugin of pytest that has the tests of the contract use coord.aio: ``pytest -p doors.aio_client tests/contract``.

They are written with Deferreds, and run on Twisted's reactor for asyncio. So every node that a test gets is one of
coord.aio, on the same loop and a private reactor, whose futures are turned into Deferreds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

from twisted.internet import asyncioreactor

_LOOP: Final = asyncio.new_event_loop()
asyncioreactor.install(_LOOP)

import pytest  # noqa: E402 - the reactor is installed before anything imports it
from twisted.internet.defer import CancelledError, Deferred  # noqa: E402
from twisted.internet.task import deferLater  # noqa: E402
from twisted.python.failure import Failure  # noqa: E402

import coord.aio  # noqa: E402
from coord.link.one_shot import hush  # noqa: E402
from doors.skipped import skip  # noqa: E402
from support import cases, cluster  # noqa: E402


def deferred_of(future: asyncio.Future[Any]) -> Deferred[Any]:
    """Return a Deferred that ends as a future does, and cancels it."""
    deferred: Deferred[Any] = Deferred(lambda _: _cancel(future))

    def ended(future: asyncio.Future[Any]) -> None:
        if deferred.called:
            if not future.cancelled():
                future.exception()
        elif future.cancelled():
            deferred.errback(CancelledError())
        elif error := future.exception():
            deferred.errback(error)
            hush(deferred)
        else:
            deferred.callback(_adapted(future.result()))

    if future.done():
        ended(future)
    else:
        future.add_done_callback(ended)
    return deferred


def _cancel(future: asyncio.Future[Any]) -> None:
    future.cancel()


class _Adapter:
    """Shows an object of coord.aio as one of coord."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name, None)
        if found is None or name.startswith("_"):
            return getattr(self._native, name)
        if not callable(found):
            return _adapted(found)
        return lambda *args, **options: _adapted(found(*args, **options))

    @property
    def _native(self) -> Any:
        inner = self._inner
        return next(vars(inner)[name] for name in ("_node", "_events", "_owned", "_watch") if name in vars(inner))

    def __repr__(self) -> str:
        return repr(self._inner)

    def __getitem__(self, key: str) -> Deferred[Any]:
        return deferred_of(self._inner[key])

    async def __aenter__(self) -> Any:
        entered = await _driven(self._inner.__aenter__())
        return self if entered is self._inner else _adapted(entered)

    async def __aexit__(self, *of: Any) -> None:
        await _driven(self._inner.__aexit__(*of))

    def __aiter__(self) -> Any:
        return self

    async def __anext__(self) -> Any:
        return await _driven(self._inner.__anext__())


async def _driven(coroutine: Coroutine[Any, None, Any]) -> Any:
    """Run a coroutine of asyncio as one of Twisted, as far as it goes at once."""
    step: Callable[[], Any] = lambda: coroutine.send(None)  # noqa: E731
    while True:
        try:
            future = step()
        except StopIteration as end:
            return end.value
        except asyncio.CancelledError:
            raise CancelledError from None
        future._asyncio_future_blocking = False
        step = lambda: coroutine.send(None)  # noqa: E731
        try:
            await _done(future)
        except CancelledError:
            step = lambda: coroutine.throw(asyncio.CancelledError())  # noqa: E731


def _done(future: asyncio.Future[Any]) -> Deferred[None]:
    """Return a Deferred that is called back when a future has ended, unless that or the Deferred was cancelled."""

    def ended(result: Any) -> Failure | None:
        return result if isinstance(result, Failure) and result.check(CancelledError) else None

    return deferred_of(future).addBoth(ended)


class _Node(_Adapter):
    def join(self, *args: Any, **options: Any) -> Any:
        return _adapted(self._inner.join(*args, cancel=False, **options))


class _Map(_Adapter):
    # Their blocks are entered and left in tasks of their own.
    def hold(self, *args: Any, **options: Any) -> Any:
        return _adapted(self._inner.hold(*args, cancel=False, **options))

    def lock(self, *args: Any, **options: Any) -> Any:
        return _adapted(self._inner.lock(*args, cancel=False, **options))

    def elect(self, *args: Any, **options: Any) -> Any:
        return _adapted(self._inner.elect(*args, cancel=False, **options))

    def semaphore(self, *args: Any, **options: Any) -> Any:
        return _adapted(self._inner.semaphore(*args, cancel=False, **options))

    def barrier(self, *args: Any, **options: Any) -> Any:
        return _adapted(self._inner.barrier(*args, cancel=False, **options))

    def __iter__(self) -> Any:
        return iter(self._inner)

    def __len__(self) -> int:
        return len(self._inner)

    def __bool__(self) -> bool:
        return bool(self._inner)

    def __contains__(self, key: object) -> bool:
        return key in self._inner

    def __setitem__(self, key: str, value: object) -> None:
        self._inner[key] = value

    def __delitem__(self, key: str) -> None:
        del self._inner[key]


class _Holding(Deferred[Any]):
    """The answer to ``hold``, which can be entered."""

    def __init__(self, holding: coord.aio.Holding[Any]) -> None:
        super().__init__(lambda _: _cancel(holding))
        self._holding = _Adapter(holding)
        deferred_of(holding).addBoth(self._end)

    def _end(self, result: Any) -> None:
        if not self.called:
            self.callback(result)
            hush(self)

    async def __aenter__(self) -> Any:
        return await self._holding.__aenter__()

    async def __aexit__(self, *of: Any) -> None:
        await self._holding.__aexit__(*of)


_maps: dict[coord.aio.EventMap, _Map] = {}


def _adapted(result: Any) -> Any:
    if isinstance(result, coord.aio.Holding):
        return _Holding(result)
    if isinstance(result, asyncio.Future):
        return deferred_of(result)
    if isinstance(result, coord.aio.EventMap):
        return _maps.setdefault(result, _Map(result))
    if type(result).__module__.startswith("coord.aio") or type(result).__name__ == "Pages":
        return _Adapter(result)
    return result


def _connect(address: Any, **options: Any) -> Any:
    return _Node(coord.aio.connect(address, **options))


def _body(self: cases.Case) -> Deferred[None]:
    from twisted.internet import reactor

    _maps.clear()
    # Trial begins a test before the loop runs.
    return deferLater(reactor, 0, original, self)


original: Any = cases.Case.body
cases.Case.body = _body  # type: ignore[method-assign]
cluster.connect = _connect  # type: ignore[assignment, attr-defined]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what the door does not have."""
    skip("aio", items)
