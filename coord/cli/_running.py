"""A coroutine under the reactor, from its start to its orderly end.

A command's body gets a `Job` and returns an exit status. It ends by returning, by raising, by a
signal or because nobody reads its output any more; the latter two cancel what it awaits. Either way
the coordinator is closed before the reactor goes.
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

# How long a link may take before we say that we are waiting for it.
_PATIENCE = 1.0
# How long an answer may take once the server was reached: what calls have by default.
_ANSWER = 30.0
# How long the coordinator may take to say good-bye.
_GOODBYE = 2.0


@dataclass(frozen=True, slots=True)
class Job:
    """What a command's body works with."""

    coordinator: Coordinator
    server: Server
    output: Output
    reactor: Any
    # Ends the command as a signal does: with what it is to raise.
    end: End

    async def reach(self) -> None:
        """Wait for the server as long as ``--connect-timeout`` says; raise `Unreachable`."""
        coordinator = self.coordinator
        try:
            await coordinator.connected(self.server.connect_timeout)
        except coord.TimedOut:
            patience = spell(self.server.connect_timeout)
            why = f": {coordinator.reason}" if coordinator.reason else ""
            raise coord.Unreachable(f"no server at {coordinator.server} within {patience}{why}") from None

    async def first_answer(self, question: Deferred[T], *, patience: float | None = _ANSWER) -> T:
        """Reach the server and return its answer; raise `Unreachable` where either takes too long.

        The question was put before there is a link, so that what breaks a rule is refused whatever
        the server does. One that has a deadline of its own needs no ``patience``.
        """
        if not question.called:
            await self._reach_for(question)
        return await (question if patience is None else self.answer(question, patience))

    async def _reach_for(self, question: Deferred[T]) -> None:
        from twisted.internet.defer import Deferred

        reaching = Deferred.fromCoroutine(self.reach())
        # A question with a short deadline of its own may be over first. Told in a later turn: to go on inside of its
        # callbacks, and there to ask for its result, is too early.
        question.addBoth(_also, lambda: self.reactor.callLater(0, reaching.cancel))
        try:
            await reaching
        except BaseException:
            if not question.called:
                # Never sent, so taking it back is the truth.
                question.addErrback(lambda _failure: None)
                question.cancel()
                raise

    async def answer(self, question: Deferred[T], patience: float = _ANSWER) -> T:
        """Return the answer of a server that was reached; raise `Unreachable` if it hangs."""

        def too_late(_failure: object, _seconds: float) -> NoReturn:
            reason = self.coordinator.reason
            why = "" if reason == "connected" else f" ({reason})"
            raise coord.Unreachable(f"no answer from {self.coordinator.server} within {spell(patience)}{why}")

        return await question.addTimeout(patience, self.reactor, onTimeoutCancel=too_late)

    async def subscribers(self, events: EventMap, keys: Sequence[str]) -> dict[str, int]:
        """Count the nodes that are subscribed to ``keys``; none is counted if the server refuses PUBSUB to us."""
        try:
            return await self.answer(events.subscribers(keys))
        except (coord.AccessDenied, coord.ServerRefused):
            # It was renamed away, or the user's rule leaves it out. That is no reason to withhold the records.
            return {}

    @contextmanager
    def patient(self) -> Iterator[None]:
        """Within this the link is waited for without end, and said so on stderr."""
        words = _LinkWords(self)
        try:
            yield
        finally:
            words.stop()


class _LinkWords:
    """Says that the server is waited for, once that takes a second, and that it is there again."""

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

    A signal, or a call of ``end`` with what is to be raised, cancels what it awaits.
    """
    # The reactor is global, and installed by its import: as late as can be.
    from twisted.internet import reactor

    from coord.cli import _log
    from coord.clock import steady

    _log.begin()
    running = _Running(steady(reactor), work)
    running.reactor.callWhenRunning(running.start)
    # Off until now (see `main`); what was imported by now is never garbage.
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
        # Between any two bytecodes: the rest happens in a turn of the reactor.
        _signals.raise_if_wanted(signum)
        self.reactor.callFromThread(self._end, _signals.Interrupted(signum))

    def _end(self, why: Exception) -> None:
        self._why = self._why or why
        if self._task is not None:
            self._task.cancel()

    def _ended(self, result: int | Failure) -> None:
        self._task = None
        self._result = result
        # Not stop(): that waits for the thread pool, where a look-up of a host name may hang. And not in this turn:
        # connections that were told to go do so in the next.
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
    """Leave without the good-bye that did not come in time."""
    from twisted.internet import defer

    return None if isinstance(failure.value, defer.CancelledError | defer.TimeoutError) else failure


def _reap_orphans(reactor: Any) -> None:
    """As PID 1, bury whom nobody else can: processes whose parents have gone."""
    from coord.cli._children import reap_orphans

    def on_child(_signum: int, _frame: object) -> None:
        reactor.callFromThread(reap_orphans)

    # Replaces Twisted's handler, which does nothing: what wakes its own reaper is the descriptor
    # behind it.
    signal.signal(signal.SIGCHLD, on_child)
    signal.siginterrupt(signal.SIGCHLD, False)
    reap_orphans()
