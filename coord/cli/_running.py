"""A coroutine under the reactor, from its start to its orderly end.

A command's body gets a `Job` and returns an exit status. It ends when it returns or raises, on a
signal, or when the reader of its output has gone; the latter two cancel what it awaits. In any case
the coordinator is closed before the reactor stops.
"""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, cast

import coord
from coord.cli import _signals
from coord.cli._durations import spell
from coord.cli._talk import say

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred
    from twisted.python.failure import Failure

    from coord import Coordinator, EventMap, LinkState
    from coord.cli._connection import Server
    from coord.cli._output import Output

__all__ = ["Body", "Job", "run", "run_work"]

T = TypeVar("T")

# Seconds without a link before we say that we are waiting for the server.
_PATIENCE = 1.0
# Seconds for an answer once the server is reached: the default deadline of calls.
_ANSWER = 30.0
# Seconds that the coordinator may take to close.
_GOODBYE = 2.0


@dataclass(frozen=True, slots=True)
class Job:
    """What a command's body works with."""

    coordinator: Coordinator
    server: Server
    output: Output
    reactor: Any
    # Ends the command as a signal does; the argument is the exception to raise.
    end: End

    async def reach(self) -> None:
        """Wait for the server up to ``--connect-timeout``; raise `Unreachable`."""
        coordinator = self.coordinator
        try:
            await coordinator.connected(self.server.connect_timeout)
        except coord.TimedOut:
            patience = spell(self.server.connect_timeout)
            why = f": {coordinator.reason}" if coordinator.reason else ""
            raise coord.Unreachable(f"no server at {coordinator.server} within {patience}{why}") from None

    async def first_answer(self, question: Deferred[T], *, patience: float | None = _ANSWER) -> T:
        """Reach the server and return its answer; raise `Unreachable` if either takes too long.

        The request is made before there is a link, so that bad input is refused whether or not the
        server is up. A request with a deadline of its own needs no ``patience``.
        """
        if not question.called:
            await self._reach_for(question)
        return await (question if patience is None else self.answer(question, patience))

    async def _reach_for(self, question: Deferred[T]) -> None:
        from twisted.internet.defer import Deferred

        reaching = Deferred.fromCoroutine(self.reach())
        # A request with a short deadline may end first. Continue in a later turn: inside its callbacks, its result is
        # not available yet.
        question.addBoth(_also, lambda: self.reactor.callLater(0, reaching.cancel))
        try:
            await reaching
        except BaseException:
            if not question.called:
                # It was never sent, so cancelling it is safe.
                question.addErrback(lambda _failure: None)
                question.cancel()
                raise

    async def answer(self, question: Deferred[T], patience: float = _ANSWER) -> T:
        """Return the answer of a reached server; raise `Unreachable` if it hangs."""

        def too_late(_failure: object, _seconds: float) -> NoReturn:
            reason = self.coordinator.reason
            why = "" if reason == "connected" else f" ({reason})"
            raise coord.Unreachable(f"no answer from {self.coordinator.server} within {spell(patience)}{why}")

        return await question.addTimeout(patience, self.reactor, onTimeoutCancel=too_late)

    async def subscribers(self, events: EventMap, keys: Sequence[str]) -> dict[str, int]:
        """Count the nodes that are subscribed to ``keys``; return no counts if the server refuses PUBSUB to us."""
        try:
            return await self.answer(events.subscribers(keys))
        except (coord.AccessDenied, coord.ServerRefused):
            # PUBSUB was renamed, or the user's ACL excludes it. Show the records without the counts.
            return {}

    @contextmanager
    def patient(self) -> Iterator[None]:
        """Within this block wait for the link without limit, and say so on stderr."""
        words = _LinkWords(self)
        try:
            yield
        finally:
            words.stop()


class _LinkWords:
    """Reports on stderr a wait for the server that takes over a second, and its end."""

    def __init__(self, job: Job) -> None:
        self._coordinator = job.coordinator
        self._reactor = job.reactor
        self._said = False
        self._later: Any = None
        self._stop_listening = self._coordinator.on_link(self._changed)
        self._changed(self._coordinator.link, "")

    def _changed(self, state: LinkState, _reason: str) -> None:
        if state == "connected":
            self._cancel()
            if self._said:
                self._said = False
                say(f"connected to the server at {self._coordinator.server}")
        elif state != "closed" and self._later is None and not self._said:
            self._later = self._reactor.callLater(_PATIENCE, self._say)

    def _say(self) -> None:
        self._later = None
        self._said = True
        why = f" ({self._coordinator.reason})" if self._coordinator.reason else ""
        say(f"waiting for the server at {self._coordinator.server}{why}")

    def _cancel(self) -> None:
        later, self._later = self._later, None
        if later is not None:
            later.cancel()

    def stop(self) -> None:
        self._stop_listening()
        self._cancel()


Body = Callable[[Job], Coroutine[Any, Any, int]]
End = Callable[[Exception], None]


def run(server: Server, body: Body) -> int:
    """Run ``body`` with a coordinator; return its exit status or raise what it raised."""

    async def work(reactor: Any, end: End) -> int:
        from coord.cli._output import Output

        output = Output(reactor)
        coordinator = server.connect(reactor)
        try:
            return await body(Job(coordinator, server, output, reactor, end))
        finally:
            output.close()
            await coordinator.close().addTimeout(_GOODBYE, reactor).addErrback(_overslept)

    return run_work(work)


def run_work(work: Callable[[Any, End], Coroutine[Any, Any, int]]) -> int:
    """Run ``work(reactor, end)`` under the reactor; return its exit status or raise what it raised.

    A signal, or a call of ``end`` with the exception to raise, cancels what it awaits.
    """
    # Importing the reactor installs it globally: do it as late as possible.
    from twisted.internet import reactor

    from coord.cli import _log
    from coord.clock import steady

    _log.begin()
    running = _Running(steady(reactor), work)
    running.reactor.callWhenRunning(running.start)
    # Garbage collection was off until now (see `main`): objects imported so far are never garbage.
    gc.freeze()
    gc.enable()
    running.reactor.run()
    _signals.leave_at_once()
    return running.result()


class _Running:
    def __init__(self, reactor: Any, work: Callable[[Any, End], Coroutine[Any, Any, int]]) -> None:
        self.reactor = reactor
        self._work = work
        self._why: Exception | None = None
        self._task: Deferred[int] | None = None
        self._result: int | Failure = 0

    def start(self) -> None:
        from twisted.internet.defer import Deferred

        _signals.catch(_signals.ENDING, self._signalled)
        if os.getpid() == 1:
            _reap_orphans(self.reactor)
        self._task = Deferred.fromCoroutine(self._work(self.reactor, self._end))
        self._task.addBoth(self._ended)

    def _signalled(self, signum: int, _frame: object) -> None:
        # A handler runs between any two bytecodes: do the rest in a turn of the reactor.
        _signals.raise_if_wanted(signum)
        self.reactor.callFromThread(self._end, _signals.Interrupted(signum))

    def _end(self, why: Exception) -> None:
        self._why = self._why or why
        if self._task is not None:
            self._task.cancel()

    def _ended(self, result: int | Failure) -> None:
        self._task = None
        self._result = result
        # Not stop(): it waits for the thread pool, where a host name look-up may hang. And not in this turn:
        # closing connections need the next one.
        self.reactor.callLater(0, self.reactor.crash)

    def result(self) -> int:
        if self._why is not None:
            raise self._why
        if isinstance(self._result, int):
            return self._result
        raise cast("Exception", self._result.value)


def _also(result: T, action: Callable[[], None]) -> T:
    action()
    return result


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
