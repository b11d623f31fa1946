"""L12: waits for a count, in whatever order messages and answers come on the two connections of a link."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import pytest

from coord.core.conditions import Reached
from coord.core.records import NEVER, StoredRecord
from coord.core.subscriptions import ARMED, READING, SUBSCRIBING, UNSUBSCRIBED, Phase, Wake
from core.test_keys import ABC, Node, reset, rev
from core.test_reached import counted

LEAST = 3


class Begun(NamedTuple):
    """What the node knew when a wait began: the newest revision, and its number in the order of waits and calls."""

    known: int
    order: int


class Link:
    """A node and a server with one counter; what is under way between them arrives in the order of its connection.

    ``made`` are the records so far, by the number of their revision. ``needed`` are the waits that a message has to
    resolve, and ``answering`` is the revision of the own call that is being answered, if it may resolve any wait.
    """

    def __init__(self) -> None:
        self.node = Node(cache_size=1)
        self.made: list[StoredRecord | None] = [None]
        self.subscribed = False
        self.subscriber: deque[Callable[[], object]] = deque()
        self.command: deque[Callable[[], object]] = deque()
        self.heard: deque[Callable[[], object]] = deque()
        self.answers: deque[Callable[[], object]] = deque()
        self.waits: dict[str, Begun] = {}
        self.resolved: set[str] = set()
        self.needed: set[str] = set()
        self.known = self.begun = 0
        self.answering = -1
        self.forged = False

    # Users.

    def wait(self) -> None:
        """Wait for the count."""
        self.begun += 1
        name = f"w{self.begun}"
        self.waits[name] = Begun(self.known, self.node.table.order())
        self._wake(self.node.table.wait_until(self.node.map, ABC, name, Reached(LEAST)))

    def cancel(self) -> None:
        """Cancel a wait."""
        for name in self._waiting()[:1]:
            self.waits.pop(name)
            self.node.table.cancel(ABC, name)

    def _waiting(self) -> list[str]:
        return [name for name in self.waits if name not in self.resolved]

    def call(self, count: int, *, own: bool) -> None:
        """Add to the count, or reset it for 0."""
        if not own:
            self._change(count)
            return
        order = self.node.table.order()

        def serve() -> None:
            number = self._change(count)
            self.answers.append(lambda: self._answered(number, order))

        self.command.append(serve)

    def _answered(self, number: int, order: int) -> None:
        # A wait that is not armed yet may see what an own call did that is answered now.
        self.answering = -1 if self.phase is ARMED else number
        self._wake(self.node.table.call_applied(self.node.map, ABC, self.made[number], order))
        self.answering = -1
        stored = self.made[number]
        if stored is not None and (stored.count or 0) >= LEAST:
            late = [name for name in self._waiting() if self.waits[name].order < order]
            assert not late, f"W7: {late} did not see this node's own count"

    @property
    def phase(self) -> Phase:
        """How far the subscription has come."""
        subscription = self.node.table.subscriptions.get(ABC)
        return UNSUBSCRIBED if subscription is None else subscription.phase

    # The server.

    def _change(self, count: int) -> int:
        last, number = self.made[-1], len(self.made)
        had = last.count or 0 if last is not None else 0
        if not count and (last is None or last.count is None):
            return number - 1
        stored = counted(number, had + count) if count else reset(number, last)
        self.made.append(stored)
        if self.subscribed:
            self.heard.append(lambda: self._wake(self.node.table.message_received(ABC, stored)))
            if had + count >= LEAST and count and self.phase in (SUBSCRIBING, READING, ARMED):
                self.needed.update(self._waiting())
        return number

    def serve_subscriber(self) -> None:
        """Take a request of the subscriber."""
        if self.subscriber:
            self.subscriber.popleft()()

    def serve_command(self) -> None:
        """Take a request of the other connection."""
        if self.command:
            self.command.popleft()()

    def forge(self, ahead: int, count: int) -> None:
        """Publish a message that nobody's call has made."""
        self.forged = True
        if self.subscribed:
            stored = counted(len(self.made) - 1 + ahead, count)
            self.heard.append(lambda: self._wake(self.node.table.message_received(ABC, stored)))

    # The node.

    def send(self) -> None:
        """Send what is to be sent."""
        table = self.node.table
        for channel in table.take_unsubscribes(9):
            self.subscriber.append(partial(self._subscribe, channel, subscribed=False))
        for channel in table.take_subscribes(9):
            self.subscriber.append(partial(self._subscribe, channel, subscribed=True))
        for channel, ticket in self.node.tickets().items():
            self.command.append(partial(self._read, channel, ticket))

    def _subscribe(self, channel: bytes, *, subscribed: bool) -> None:
        self.subscribed = subscribed
        table = self.node.table
        self.heard.append(lambda: (table.subscribed if subscribed else table.unsubscribed)(channel))

    def _read(self, channel: bytes, ticket: int) -> None:
        number = len(self.made) - 1
        stored = self.made[number]

        def answered() -> None:
            self._wake(self.node.table.read_answered(channel, ticket, rev(number) if number else NEVER, stored))

        self.answers.append(answered)

    def hear(self) -> None:
        """Take what arrives on the subscriber."""
        if self.heard:
            self.heard.popleft()()

    def answer(self) -> None:
        """Take what arrives on the other connection."""
        if self.answers:
            self.answers.popleft()()

    def _wake(self, wake: Wake | None) -> None:
        if ABC in self.node.table.subscriptions:
            self.known = max(self.known, self.node.entry().known_revision.number)
        for name in map(str, wake.waiters if wake else ()):
            assert name not in self.resolved, f"{name} was resolved twice"
            self.resolved.add(name)
            assert wake is not None
            assert wake.stored is not None
            number = wake.stored.revision.number
            assert (wake.stored.count or 0) >= LEAST
            over = number < self.waits[name].known and number != self.answering
            assert self.forged or not over, f"{name} was resolved by a count that was over when it began"

    def finish(self) -> None:
        """Have all arrive, through two heartbeats."""
        for _ in range(2):
            while True:
                self.send()
                under_way = (self.subscriber, self.command, self.heard, self.answers)
                if not any(under_way):
                    break
                for queue in under_way:
                    while queue:
                        queue.popleft()()
            self.node.table.verify()
        last = self.made[-1]
        stands = last is not None and (last.count or 0) >= LEAST
        lost = [name for name in self._waiting() if stands or name in self.needed]
        assert not lost, f"L12: {lost} missed the count"


STEPS: dict[str, Callable[[Link, random.Random], object]] = {
    "wait": lambda link, chance: link.wait(),
    "cancel": lambda link, chance: link.cancel(),
    "own": lambda link, chance: link.call(chance.choice((0, 1, 3)), own=True),
    "other": lambda link, chance: link.call(chance.choice((0, 1, 3)), own=False),
    "forge": lambda link, chance: link.forge(chance.choice((-1, 0, 1, 2, 9)), chance.choice((1, 5))),
    "verify": lambda link, chance: link.node.table.verify(),
    "send": lambda link, chance: link.send(),
    "serve_subscriber": lambda link, chance: link.serve_subscriber(),
    "serve_command": lambda link, chance: link.serve_command(),
    "hear": lambda link, chance: link.hear(),
    "answer": lambda link, chance: link.answer(),
}
SERVE = ["send", "serve_subscriber", "serve_command", "hear", "answer"] * 2


def _play(seed: int, *, forged: bool) -> None:
    chance, link = random.Random(seed), Link()
    names = [*STEPS, *SERVE] if forged else [name for name in (*STEPS, *SERVE) if name != "forge"]
    for _ in range(chance.choice((12, 25, 50))):
        name = chance.choice(names)
        STEPS[name](link, chance)
    link.finish()


@pytest.mark.parametrize("forged", [False, True])
def test_l12_in_every_order(forged: bool) -> None:
    """L12, W7: no count is missed by who waited for it, and none that was over resolves a later wait."""
    for seed in range(3_000):
        try:
            _play(seed, forged=forged)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from None
