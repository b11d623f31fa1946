"""A coroutine under the reactor, from its start to its orderly end.

A command's body gets a `Job` and returns an exit status. It ends when it returns or raises, on a
signal, or when the reader of its output has gone; the latter two cancel what it awaits. In any case
the coordinator is closed before the reactor stops.
"""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, cast

from coord.cli import _metrics, _notify, _signals
from coord.cli._job import End, Job

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred
    from twisted.python.failure import Failure

    from coord.cli._connection import Server

__all__ = ["Body", "run", "run_work"]

# Seconds that the coordinator may take to close.
_GOODBYE = 2.0

Body = Callable[[Job], Coroutine[Any, Any, int]]


def run(server: Server, body: Body, *, withdraw: Callable[[], bool] = lambda: True, orderly: bool = False) -> int:
    """Run ``body`` with a coordinator; return its exit status or raise what it raised.

    :param withdraw: asked at its end; if it returns false, what it holds is left to its lease.
    :param orderly: a signal is no error if the body then ends well.
    """

    async def work(reactor: Any, end: End) -> int:
        from coord.cli._output import Output

        output = Output(reactor)
        coordinator = server.connect(reactor)
        try:
            if server.metrics is not None:
                await _metrics.begin(reactor, server.metrics)
            supervisor = _notify.Supervisor(coordinator.server)
            coordinator.on_link(supervisor.link_changed)
            return await body(Job(coordinator, server, output, reactor, end, supervisor))
        finally:
            output.close()
            await coordinator.close(withdraw=withdraw()).addTimeout(_GOODBYE, reactor).addErrback(_overslept)

    return run_work(work, orderly=orderly)


def run_work(work: Callable[[Any, End], Coroutine[Any, Any, int]], *, orderly: bool = False) -> int:
    """Run ``work(reactor, end)`` under the reactor; return its exit status or raise what it raised.

    A signal, or a call of ``end`` with the exception to raise, cancels what it awaits. ``orderly`` is as of `run`.
    """
    # Importing the reactor installs it globally: do it as late as possible.
    from twisted.internet import reactor

    from coord.cli import _log
    from coord.clock import steady

    _log.begin()
    running = _Running(steady(reactor), work, orderly=orderly)
    running.reactor.callWhenRunning(running.start)
    # Garbage collection was off until now (see `main`): objects imported so far are never garbage.
    gc.freeze()
    gc.enable()
    running.reactor.run()
    _signals.leave_at_once()
    return running.result()


class _Running:
    def __init__(self, reactor: Any, work: Callable[[Any, End], Coroutine[Any, Any, int]], *, orderly: bool) -> None:
        self.reactor = reactor
        self._orderly = orderly
        self._work = work
        self._why: Exception | None = None
        self._task: Deferred[int] | None = None
        self._result: int | Failure = 0

    def start(self) -> None:
        from twisted.internet.defer import Deferred

        _signals.catch(_signals.ENDING, self._signalled)
        if os.getpid() == 1:
            _reap_orphans(self.reactor)
        _notify.begin_watchdog(self.reactor)
        self._task = Deferred.fromCoroutine(self._work(self.reactor, self._end))
        self._task.addBoth(self._ended)

    def _signalled(self, signum: int, _frame: object) -> None:
        # A handler runs between any two bytecodes: do the rest in a turn of the reactor.
        _signals.raise_if_wanted(signum)
        self.reactor.callFromThread(self._end, _signals.Interrupted(signum))

    def _end(self, why: Exception) -> None:
        if self._why is None:
            self._why = why
            _notify.tell("STOPPING=1")
        if self._task is not None:
            self._task.cancel()

    def _ended(self, result: int | Failure) -> None:
        self._task = None
        self._result = result
        # Not stop(): it waits for the thread pool, where a host name look-up may hang. And not in this turn:
        # closing connections need the next one.
        self.reactor.callLater(0, self.reactor.crash)

    def result(self) -> int:
        if self._why is not None and not (self._orderly and isinstance(self._result, int)):
            raise self._why
        if isinstance(self._result, int):
            return self._result
        raise cast("Exception", self._result.value)


def _overslept(failure: Failure) -> Failure | None:
    """Exit without waiting longer for the coordinator to close."""
    from twisted.internet import defer

    return None if isinstance(failure.value, defer.CancelledError | defer.TimeoutError) else failure


def _reap_orphans(reactor: Any) -> None:
    """As PID 1, reap orphans: no other process can."""
    from coord.cli._children import reap_orphans

    def on_child(_signum: int, _frame: object) -> None:
        reactor.callFromThread(reap_orphans)

    # Replaces Twisted's handler, which does nothing: its own reaper is woken by the descriptor
    # behind it.
    signal.signal(signal.SIGCHLD, on_child)
    signal.siginterrupt(signal.SIGCHLD, False)
    reap_orphans()
