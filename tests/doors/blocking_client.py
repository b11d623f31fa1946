"""A plugin of pytest that has the tests of the contract use coord.blocking.

They are written with Deferreds, and run on Twisted's reactor:
``pytest -p doors.blocking_client tests/contract --servers redis``. So every node that a test gets is one of
coord.blocking. What a test asks is asked by a thread of its own, which waits for the answer, in the order of the test.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Final
from weakref import WeakValueDictionary

import pytest
from twisted.internet import reactor as _reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.logger import Logger

import coord.blocking
from coord import Closed, InvalidInput, LinkState
from coord.blocking import bridge
from coord.blocking.job import Job
from coord.blocking.thread import ReactorThread
from coord.clock import steady
from coord.link.link import Link
from coord.link.one_shot import hush
from coord.session.commands import Commands
from doors.skipped import skip
from support import cluster
from support.gate import Gate

reactor: Any = _reactor

# What returns at once in all doors, and not a Deferred.
_AT_ONCE: Final = {"statistics", "events", "on_link", "watch", "pages", "barrier", "check", "on_renewed"}
_WRONG: Final = (InvalidInput, TypeError, RuntimeError)
_PATIENCE: Final = 20.0
_MOMENT: Final = 1.0
"""Seconds for a thread to end whose answer is there."""


class _Here(threading.local):
    """The request of this thread, if it is one of ours."""

    asking: _Asking | None = None


_log: Final = Logger()
_telling: Final[deque[Callable[[], None]]] = deque()
"""What is to be told to the test, in the order in which it happened in coord's thread."""


def _tell(what: Callable[[], None]) -> None:
    """Have it called in the reactor's thread, after what happened before."""
    _telling.append(what)
    reactor.callFromThread(_tell_all)


def _tell_all() -> None:
    while _telling:
        _tell_now(_telling.popleft())


def _tell_now(tell: Callable[[], None]) -> None:
    try:
        tell()
    except Exception:  # noqa: BLE001 - the reactor would log it, too
        _log.failure("a callback of the test")


def _tell_consequences(its: Any, cancel: Callable[[], object]) -> None:
    """Cancel something in coord's thread; tell what comes of it, and nothing else: a callback may cancel siblings."""
    caused: list[Callable[[], None]] = []

    def do() -> None:
        before = len(_telling)
        cancel()
        caused.extend(_telling.pop() for _ in range(len(_telling) - before))

    with suppress(Closed):
        its.call_anywhere(do)
    for tell in reversed(caused):
        _tell_now(tell)


class _Turn:
    """Has coord's thread wait for the test's turn, so that what is asked in it without waiting arrives together."""

    over: threading.Event | None = None

    @classmethod
    def hold(cls) -> None:
        if cls.over is None:
            over = cls.over = threading.Event()
            _thread.submit(lambda: over.wait(_MOMENT))
            reactor.callFromThread(cls.end)

    @classmethod
    def end(cls) -> None:
        """Let it go on: at the end of the turn, or where the test waits for it."""
        over, cls.over = cls.over, None
        if over is not None:
            over.set()


def _have_asked(its: Any) -> None:
    """Return when the requests so far have been made: a crossing later."""
    its.call_anywhere(lambda: None)


class _Asking:
    """A thread that asks something, and waits."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self.begun = threading.Event()
        self.job: Any = None
        self.bridge: Any = None
        self.undo: Any = None
        self.result: Any = None
        self.error: BaseException | None = None
        self._function = function
        self._over = threading.Event()
        self._deferred: Deferred[Any] | None = None
        threading.Thread(target=self._run, daemon=True).start()
        # Until the request is on its way: so the next one is made after it.
        assert self.begun.wait(_PATIENCE)

    def _run(self) -> None:
        _here.asking = self
        try:
            self.result = self._function()
        except BaseException as error:  # noqa: BLE001 - raised where the test waits
            self.error = error
        self._over.set()
        self.begun.set()
        _tell(self._finish)

    def answered(self) -> None:
        """Tell the answer, which is there for the thread, before what happens later; in coord's thread."""
        _tell(self._finish_soon)

    def at_once(self) -> Any:
        """Return what it has come to, though it blocks."""
        self._over.wait()
        _tell_all()
        if self.error is not None:
            raise self.error
        return _adapted(self.result)

    def deferred(self) -> Deferred[Any]:
        """Return a Deferred for it; raise what is wrong with the request."""
        if self.job is None or self.job.done:
            self._over.wait(_MOMENT)
            _tell_all()
            if isinstance(self.error, _WRONG):
                raise self.error
        deferred: Deferred[Any] = Deferred(self._cancel)
        self._deferred = deferred
        if self._over.is_set():
            # Behind the answers that came before it.
            _tell(self._finish)
            _tell_all()
        return deferred

    def _cancel(self, _: Deferred[Any]) -> None:
        # As an interruption of the thread does. What it has come to is for nobody.
        self._deferred = None
        if self.job is not None:
            _tell_consequences(self.bridge, lambda: self.job.abandon(self.undo))

    def _finish_soon(self) -> None:
        self._over.wait(_MOMENT)
        self._finish()

    def _finish(self) -> None:
        deferred = self._deferred
        if deferred is None or deferred.called or not self._over.is_set():
            return
        if self.error is None:
            deferred.callback(_adapted(self.result))
        else:
            deferred.errback(self.error)
            hush(deferred)


_here: Final = _Here()


def _wait(self: Any, job: Any, undo: Any = None) -> Any:
    _Turn.end()
    asking = _here.asking
    if asking is not None and asking.job is None:
        asking.job, asking.bridge, asking.undo = job, self, undo
        job.asking = asking
    return _waits(self, job, undo)


def _run(self: Any) -> None:
    _runs(self)
    asking = getattr(self, "asking", None)
    if asking is not None:
        asking.begun.set()


def _end(self: Any, *of: Any) -> None:
    asking = getattr(self, "asking", None)
    _ends(self, *of)
    if asking is not None:
        asking.answered()


_waits: Final[Any] = bridge.Bridge._wait
_runs: Final[Any] = Job.run
_ends: Final[Any] = Job._end
bridge.Bridge._wait = _wait  # type: ignore[method-assign]
Job.run = _run  # type: ignore[method-assign]
Job._end = _end  # type: ignore[method-assign, assignment]


def deferred_of(future: Future[Any], its: Any, *, at_once: bool = True) -> Deferred[Any]:
    """Return a Deferred that ends as a future does, and cancels it.

    :param at_once: it may have ended already; else the thread was quicker than the test, which is told in a later turn.
    """
    given_up = False

    def cancel(_: Deferred[Any]) -> None:
        nonlocal given_up
        # What it has come to meanwhile is for nobody.
        given_up = True
        _tell_consequences(its, take_back)

    def take_back() -> None:
        future.cancel()
        # Now, and not a crossing later.
        future._take_back()  # type: ignore[attr-defined]

    deferred: Deferred[Any] = Deferred(cancel)

    def ended() -> None:
        if deferred.called or given_up:
            return
        if future.cancelled():
            deferred.errback(CancelledError())
        elif error := future.exception():
            deferred.errback(error)
            hush(deferred)
        else:
            deferred.callback(future.result())

    if at_once and future.done():
        ended()
    else:
        future.add_done_callback(lambda _: _tell(ended))
    return deferred


class _Adapter:
    """Shows an object of coord.blocking as one of coord."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        inner = self._inner
        found = getattr(inner, name, None)
        if found is None or name.startswith("_"):
            return getattr(self._native, name)
        if not callable(found):
            return _adapted(found)
        return lambda *args, **options: self._ask(name, lambda: found(*args, **options))

    def _ask(self, name: str, function: Callable[[], Any]) -> Any:
        asking = _Asking(function)
        if name in _AT_ONCE:
            return asking.at_once()
        if name == "lost":
            future = _plain(asking)
            _have_asked(self._its)
            return deferred_of(future, self._its)
        return asking.deferred()

    @property
    def _its(self) -> Any:
        its = self._inner._bridge
        return its() if callable(its) else its

    @property
    def _native(self) -> Any:
        inner = self._inner
        if isinstance(inner, coord.blocking.Coordinator):
            return self._its.node
        if isinstance(inner, coord.blocking.EventMap):
            its = self._its
            return its.call_anywhere(lambda: inner._events(its))
        return next(vars(inner)[name] for name in ("_owned", "_watch") if name in vars(inner))

    def __repr__(self) -> str:
        return repr(self._inner)

    async def __aenter__(self) -> Any:
        return await _Asking(self._inner.__enter__).deferred()

    async def __aexit__(self, *of: Any) -> None:
        await _Asking(lambda: self._inner.__exit__(*of)).deferred()

    def __aiter__(self) -> Any:
        return self

    async def __anext__(self) -> Any:
        step = await _Asking(lambda: next(self._inner, None)).deferred()
        if step is None:
            raise StopAsyncIteration
        return step


def _plain(asking: _Asking) -> Any:
    asking.at_once()
    return asking.result


class _Map(_Adapter):
    def __getitem__(self, key: str) -> Deferred[Any]:
        may_have = isinstance(key, str) and self._may_have(key.encode(errors="replace"))
        if not may_have:
            _Turn.hold()
        future = self._inner[key]
        # What the node has can be answered at once. Of the rest, many waits are made in one turn, as without threads.
        if may_have:
            _have_asked(self._its)
        return deferred_of(future, self._its, at_once=may_have)

    def _may_have(self, key: bytes) -> bool:
        session, kept = self._its.node._session, self._inner._kept
        if session.link_status.state is LinkState.CLOSED:
            return True
        return kept is not None and session.table.is_tracked(kept[1]._prefix + key)

    def hold(self, *args: Any, **options: Any) -> Any:
        return _Held(_Asking(lambda: self._inner.hold(*args, **options)).deferred())

    def lock(self, *args: Any, **options: Any) -> Any:
        return _Held(_Asking(lambda: self._inner.lock(*args, **options)).deferred())

    def elect(self, *args: Any, **options: Any) -> Any:
        return _Held(_Asking(lambda: self._inner.elect(*args, **options)).deferred())

    def semaphore(self, *args: Any, **options: Any) -> Any:
        return _Held(_Asking(lambda: self._inner.semaphore(*args, **options)).deferred())

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


class _Node(_Adapter):
    def on_link(self, callback: Callable[..., None]) -> Callable[[], None]:
        heard = True

        def tell(*said: Any) -> None:
            if heard:
                callback(*said)

        unregister = self._inner.on_link(lambda *said: _tell(lambda: tell(*said)))

        def stop() -> None:
            nonlocal heard
            heard = False
            unregister()

        return stop

    def join(self, *args: Any, **options: Any) -> Any:
        return _Held(_Asking(lambda: self._inner.join(*args, **options)).deferred())

    async def __aenter__(self) -> Any:
        return self


class _Held(Deferred[Any]):
    """The answer to ``hold`` and ``lock``, which can be entered."""

    def __init__(self, inner: Deferred[Any]) -> None:
        super().__init__(lambda _: inner.cancel())
        inner.addBoth(self._end)

    def _end(self, result: Any) -> None:
        if not self.called:
            self.callback(result)
            hush(self)

    async def __aenter__(self) -> Any:
        self._entered = await self
        return self._entered

    async def __aexit__(self, *of: Any) -> None:
        await self._entered.__aexit__(*of)


# As long as somebody has them.
_maps: Final[WeakValueDictionary[Any, _Map]] = WeakValueDictionary()


def _adapted(result: Any) -> Any:
    if isinstance(result, coord.blocking.EventMap):
        return _maps.setdefault(result, _Map(result))
    if type(result).__module__.startswith("coord.blocking") or type(result).__name__ == "generator":
        return _Adapter(result)
    return result


class _Served:
    """Keeps the thread running from test to test."""

    def begin_close(self) -> Callable[[float], object]:
        return lambda _: None


_thread: Final = ReactorThread.acquire(_Served())


def _from_here(method: Callable[..., Any]) -> Any:
    """Have a method of a link that is not public called in coord's thread, and its answer told here."""

    def moved(its: Any, *args: Any, **options: Any) -> Any:
        link = getattr(its, "_link", its)
        if _thread.is_current or link._clock is not steady(_thread.reactor):
            return method(its, *args, **options)
        told: Deferred[Any] = Deferred()

        def ask() -> None:
            method(its, *args, **options).addBoth(lambda result: _tell(lambda: told.callback(result)))

        _thread.submit(ask)
        return told

    return moved


Commands.look = _from_here(Commands.look)  # type: ignore[method-assign]
Link.ask = _from_here(Link.ask)  # type: ignore[method-assign]


class _Gate(Gate):
    """A gate in coord's thread."""

    def __init__(self, inner: Any) -> None:
        super().__init__(_moved(inner))

    def lead(self, inner: Any) -> None:
        super().lead(_moved(inner))

    def cut(self) -> None:
        _in_thread(super().cut)

    def stall(self) -> None:
        _in_thread(super().stall)

    def resume(self) -> None:
        _in_thread(super().resume)


def _in_thread(function: Callable[[], None]) -> None:
    _Turn.end()
    if _thread.is_current:
        function()
    else:
        _thread.call(function)


def _moved(endpoint: Any) -> Any:
    return UNIXClientEndpoint(_thread.reactor, endpoint._path)


def _connect(address: Any, **options: Any) -> Any:
    _Turn.end()
    return _Node(coord.blocking.connect(address, **options))


cluster.connect = _connect  # type: ignore[assignment, attr-defined]
cluster.Gate = _Gate  # type: ignore[attr-defined]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what the door does not have."""
    skip("blocking", items)
