"""The thread of the reactor that serves all blocking coordinators of this process."""

from __future__ import annotations

import atexit
import os
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib import import_module
from threading import RLock, Thread, get_ident
from typing import Any, Final, Protocol, TypeVar, cast

from twisted.internet import default
from twisted.internet.posixbase import PosixReactorBase

from coord.blocking.job import Job
from coord.reactors import PrivateReactor

__all__ = ["ReactorThread", "Served", "child_lock", "refuse_patched_threads"]

T = TypeVar("T")

_LONGEST_EXIT: Final = 2.0
"""Seconds for which the exit of the process waits for coordinators to be closed."""


class Served(Protocol):
    """One coordinator."""

    def begin_close(self) -> Callable[[float], object]:
        """Begin to close it; return what waits for that, at most for so many seconds."""


class ReactorThread:
    """A reactor of the class that Twisted takes on this platform, and the thread that runs it."""

    def __init__(self) -> None:
        self.reactor: Any = _private_class()()
        self.served: set[Served] = set()
        self._thread = Thread(target=self._run, name="coord", daemon=True)
        self._thread.start()

    @classmethod
    def acquire(cls, served: Served) -> ReactorThread:
        """Return the thread of this process, for one more coordinator, which must `release` it."""
        with _Process.lock:
            if _Process.thread is None:
                _Process.thread = cls()
            _Process.thread.served.add(served)
            return _Process.thread

    def release(self, served: Served) -> None:
        """Be without that coordinator; without any, end the thread."""
        with _Process.lock:
            self.served.discard(served)
            if self.served or _Process.thread is not self:
                return
            _Process.thread = None
        self.stop(_LONGEST_EXIT)

    @property
    def is_current(self) -> bool:
        """Whether this is called in that thread."""
        return get_ident() == self._thread.ident

    def submit(self, function: Callable[[], object]) -> None:
        """Have a function called in the thread."""
        self.reactor.callFromThread(function)

    def call(self, function: Callable[[], T]) -> T:
        """Call a function in the thread, and return its result."""
        job = Job(function)
        self.submit(job.run)
        job.wait()
        return cast(T, job.result())

    def stop(self, seconds: float) -> None:
        """End the thread, at most in so many seconds."""
        self.reactor.callFromThread(self.reactor.stop)
        self._thread.join(seconds)

    def _run(self) -> None:
        try:
            self.reactor.run(installSignalHandlers=False)
        finally:
            self.close_descriptors()

    def close_descriptors(self) -> None:
        """Close what the reactor has for itself; Twisted expects it to live as long as the process."""
        for waker in self.reactor._internalReaders:
            waker.connectionLost(None)
        # Of epoll and of kqueue; the other reactors have none.
        for name in ("_poller", "_kqueue"):
            close = getattr(getattr(self.reactor, name, None), "close", None)
            if close is not None:
                close()


class _Process:
    """The state of the present process."""

    lock = RLock()
    child_lock = RLock()
    thread: ReactorThread | None = None


def child_lock() -> AbstractContextManager[Any]:
    """Return a lock for making nodes anew after a fork."""
    return _Process.child_lock


def _in_child() -> None:
    # The thread is the parent's, and another one may have had the locks.
    _Process.lock, _Process.child_lock, _Process.thread = RLock(), RLock(), None


os.register_at_fork(after_in_child=_in_child)


@atexit.register
def _close_all() -> None:
    thread, _Process.thread = _Process.thread, None
    if thread is None:
        return
    end = time.monotonic() + _LONGEST_EXIT
    waits = [served.begin_close() for served in list(thread.served)]
    for wait in waits:
        wait(max(0.0, end - time.monotonic()))
    thread.stop(max(0.0, end - time.monotonic()))


def _private_class() -> type[Any]:
    """Return a private reactor's class: of the class that Twisted's default reactor has on this platform."""
    module = import_module(default.install.__module__)
    found = [each for each in vars(module).values() if isinstance(each, type) and issubclass(each, PosixReactorBase)]
    (chosen,) = (each for each in found if each.__module__ == module.__name__)
    return type("ThreadReactor", (PrivateReactor, chosen), {})


def refuse_patched_threads() -> None:
    """Raise `RuntimeError` if gevent or eventlet has replaced the threads of this process."""
    gevent, eventlet = sys.modules.get("gevent.monkey"), sys.modules.get("eventlet.patcher")
    if gevent is not None and gevent.is_module_patched("threading"):
        raise RuntimeError("coord.blocking needs real threads, and gevent has replaced them: it is not supported")
    if eventlet is not None and eventlet.is_monkey_patched("thread"):
        raise RuntimeError("coord.blocking needs real threads, and eventlet has replaced them: it is not supported")
