"""What the body of a command works with: the coordinator, the server and the output."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import coord
from coord.cli._durations import spell
from coord.cli._talk import say

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

    from coord import Coordinator, EventMap, LinkState, Record
    from coord.cli._connection import Server
    from coord.cli._notify import Supervisor
    from coord.cli._output import Output

__all__ = ["End", "Job"]

T = TypeVar("T")
End = Callable[[Exception], None]

# Seconds without a link before we say that we are waiting for the server.
_PATIENCE = 1.0
# Seconds for an answer once the server is reached: the default deadline of calls.
_ANSWER = 30.0


@dataclass(frozen=True, slots=True)
class Job:
    """What a command's body works with."""

    coordinator: Coordinator
    server: Server
    output: Output
    reactor: Any
    # Ends the command as a signal does; the argument is the exception to raise.
    end: End
    # Is told what the command does.
    supervisor: Supervisor

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

    async def holders(self, events: EventMap, records: Iterable[Record | None]) -> dict[str, int]:
        """Count the holders of the keys that are held; return no counts if the server refuses that to us."""
        from twisted.internet.defer import DeferredList

        held = [record.key for record in records if record is not None and record.held]
        questions: Deferred[Any] = DeferredList([events.holders(key, 1) for key in held], consumeErrors=True)
        answers = await self.answer(questions) if held else ()
        return {key: answer[0] for key, (good, answer) in zip(held, answers, strict=True) if good}

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


def _also(result: T, action: Callable[[], None]) -> T:
    action()
    return result
