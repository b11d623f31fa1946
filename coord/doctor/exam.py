"""Examine a server for ``coord doctor``: query it, try everything that a node does, clean up."""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import suppress
from statistics import median
from typing import Any, Final, NoReturn, TypeVar

from twisted.internet.defer import Deferred, ensureDeferred

from coord import CaughtUp, Coordinator, EventMap, errors
from coord.core.names import MapNames
from coord.doctor.rules import SETTINGS, Facts, Finding, Level

__all__ = ["COMMANDS", "SCRATCH", "Exam", "facts_from", "facts_of"]

T = TypeVar("T")

SCRATCH: Final = "coord-doctor"
_PINGS, _WAKES = 20, 5
# Seconds for a command or call, and for a trial of several.
_PATIENCE, _TRIAL = 5.0, 10.0

# Every command that a node uses on a map, with keys of our own: `%` becomes a unique name.
COMMANDS: Final = (
    "HSET %h field x",
    "HGET %h field",
    "HMGET %h field",
    "HSCAN %h 0",
    "HLEN %h",
    "HDEL %h field",
    "XADD %x * field x",
    "XRANGE %x - + COUNT 1",
    "XINFO STREAM %x",
    "XTRIM %x MINID 1-1",
    "XDEL %x 1-1",
    "ZADD %z 1 member",
    "ZRANGEBYSCORE %z -inf +inf LIMIT 0 1",
    "ZSCORE %z member",
    "ZLEXCOUNT %z - +",
    "ZRANGEBYLEX %z - + LIMIT 0 1",
    "ZREVRANGEBYLEX %z + - LIMIT 0 1",
    "ZREMRANGEBYLEX %z ( (",
    "ZREM %z member",
    "DEL %h %x %z",
    "TIME",
    "WAIT 0 1",
)


async def facts_of(coordinator: Coordinator, now: Callable[[], float] = time.time) -> Facts:
    """Query the server's state, settings and time."""
    return await facts_from(coordinator.execute, SETTINGS, now)


async def facts_from(
    ask: Callable[..., Awaitable[Any]], names: Iterable[str], now: Callable[[], float] = time.time
) -> Facts:
    """Query the state and time of the server that ``ask`` asks, and its settings of these names."""
    settings = {}
    for name in names:
        # One by one: only Redis 7 takes several at once. Without permission there are no settings.
        with suppress(errors.AccessDenied, errors.ServerRefused):
            reply = await ask("CONFIG", "GET", name)
            settings.update({name: reply[1].decode(errors="replace")} if reply else {})
    before = now()
    seconds, microseconds = await ask("TIME")
    ahead = int(seconds) + int(microseconds) / 1e6 - (before + now()) / 2
    return Facts(_parse_info(await ask("INFO")), settings, ahead)


def _parse_info(text: bytes) -> dict[str, str]:
    lines = text.decode(errors="replace").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line and not line.startswith("#"))


class Exam:
    """Tries what a node does, on a map of its own that is removed afterwards.

    ``coordinator`` calls and ``other``, another node, waits. ``ping`` and ``wake`` are the median
    round trips, in seconds; ``wake`` is `None` without a wake-up.

    :param database: the number of the database that the coordinators use.
    :param clock: the coordinators' reactor.
    :param scratch: the map; on a cluster, one of each server that has slots.
    :param alone: whether it is on a cluster, where a map is by itself.
    """

    def __init__(
        self,
        coordinator: Coordinator,
        other: Coordinator,
        *,
        database: int,
        clock: Any,
        scratch: str = SCRATCH,
        alone: bool = False,
    ) -> None:
        self.ping = 0.0
        self.wake: float | None = None
        self._coordinator = coordinator
        self._other = other
        self._clock = clock
        self._database = database
        self._scratch, self._alone = scratch, alone
        self._names = MapNames(coordinator.namespace, scratch, database, alone=alone)
        self._key = coordinator.incarnation
        self._user = "USER"
        self._failures: list[errors.Error] = []
        self._may_delete = True
        # The server is up but does not answer in time: every further trial would time out too.
        self._stuck = False

    async def run(self) -> list[Finding]:
        """Try everything until the server does not answer in time; return the findings."""
        self.ping = median([await self._timed(self._ask("PING")) for _ in range(_PINGS)])
        with suppress(errors.Error):
            self._user = (await self._ask("ACL", "WHOAMI")).decode()
        self._may_delete = await self._delete(self._own("probe:"))
        if not self._stuck:
            try:
                await self._try_all()
            finally:
                await self._clean_up()
        return [*self._judgement()]

    async def _try_all(self) -> None:
        for trial in self._trials():
            await self._try(trial)
            if self._stuck:
                return

    def _own(self, kind: str) -> str:
        # If we cannot delete them, use the same names each time, so that they do not accumulate.
        return f"{self._names.records.decode()}:{kind}{self._key if self._may_delete else ''}:"

    def _trials(self) -> Iterator[Awaitable[object]]:
        for words in COMMANDS:
            yield self._ask(*words.replace("%", self._own("probe:")).split(" "))
        events, key = self._coordinator.events(self._scratch), self._key
        yield self._wakes(events)
        yield events.fire(key, timeout=_PATIENCE)
        yield events.reset(key, timeout=_PATIENCE)
        yield self._come_late(events)
        yield events.record(key)
        yield events.records()
        yield events.subscribers([key])
        yield self._watch(events)
        yield events.reset(key, timeout=_PATIENCE)
        yield self._hold(events)

    async def _hold(self, events: EventMap) -> None:
        async with events.hold(self._key, timeout=_PATIENCE):
            await events.holders(self._key)

    async def _wakes(self, events: EventMap) -> None:
        """Wake the other node a few times, and measure the latency."""
        waiting = self._other.events(self._scratch)
        took = []
        for number in range(_WAKES):
            wait = waiting.wait(self._key, timeout=_PATIENCE)
            woken: Deferred[float] = wait.addCallback(lambda _: self._clock.seconds())
            try:
                await waiting.armed()
                began = self._clock.seconds()
                await events.pulse(self._key, number, timeout=_PATIENCE)
                took.append(await woken - began)
            finally:
                woken.addErrback(lambda _: None)
                wait.cancel()
        self.wake = median(took)

    async def _come_late(self, events: EventMap) -> None:
        """Make the other node wait for an event that has already failed."""
        await events.fail(self._key, "for a trial", timeout=_PATIENCE)
        with suppress(errors.EventFailed):
            await self._other.events(self._scratch).wait(self._key, timeout=_PATIENCE)

    async def _watch(self, events: EventMap) -> None:
        async with events.watch(since="start") as changes:
            async for change in changes:
                if isinstance(change, CaughtUp):
                    return

    async def _timed(self, answer: Awaitable[object]) -> float:
        began = self._clock.seconds()
        await answer
        return self._clock.seconds() - began  # type: ignore[no-any-return]

    def _answer(self, question: Deferred[T], patience: float) -> Deferred[T]:
        """Return the answer; it fails with `Unreachable` if it takes longer than ``patience`` seconds."""
        coordinator = self._coordinator

        def too_late(_failure: object, _seconds: float) -> NoReturn:
            why = "" if coordinator.reason == "connected" else f" ({coordinator.reason})"
            raise errors.Unreachable(f"no answer from {coordinator.server} within {patience:g}s{why}")

        return question.addTimeout(patience, self._clock, onTimeoutCancel=too_late)

    def _ask(self, *words: str | bytes) -> Awaitable[Any]:
        return self._answer(self._coordinator.execute(*words, at=self._scratch), _PATIENCE)

    async def _try(self, trial: Awaitable[object]) -> None:
        trying: Deferred[object] = ensureDeferred(trial)  # type: ignore[arg-type]
        try:
            await self._answer(trying, _TRIAL)
        except errors.HistoryLost:
            # Another doctor has just cleaned up the map.
            pass
        except errors.Unreachable as error:
            self._not_answered(error)
        except errors.Error as error:
            self._failures.append(error)

    def _not_answered(self, error: errors.Unreachable) -> None:
        """Record that the server did not answer in time; raise if it is gone."""
        if self._coordinator.link != "connected":
            raise error
        self._failures.append(error)
        self._stuck = True

    async def _clean_up(self) -> None:
        names = self._names
        probes = [f"{self._own('probe:')}{each}" for each in "hxz"]
        own = names.keys if self._alone else (names.records, names.log, names.due, names.entries)
        await self._delete(*(name.decode() for name in own), *probes)
        with suppress(errors.Error):
            await self._ask("ZREM", names.idle, names.name)

    async def _delete(self, *names: str) -> bool:
        """Delete keys; return whether we are allowed to."""
        try:
            await self._ask("DEL", *names)
        except errors.AccessDenied:
            return False
        except errors.Unreachable as error:
            self._not_answered(error)
        except errors.Error:
            # Another trial will find what is wrong with the server.
            pass
        return True

    def _judgement(self) -> Iterator[Finding]:
        denied = [str(error) for error in self._failures if isinstance(error, errors.AccessDenied)]
        if denied:
            # The other failures may only be consequences.
            rules = dict.fromkeys(rule for text in denied for rule in self._rules(text))
            fix = f"ACL SETUSER {self._user} {' '.join(rules)}" if rules else None
            yield Finding("permissions", Level.WARNING, _listed(denied), fix)
            return
        yield Finding("permissions", Level.OK, "every command and channel that coord uses")
        if self._failures:
            yield Finding("trial", Level.WARNING, _listed([str(error) for error in self._failures]))

    def _rules(self, text: str) -> Iterator[str]:
        command = re.search(r"run the '([\w|]+)' command", text)
        space = self._coordinator.namespace
        if command is not None:
            yield f"+{command[1]}"
        elif "channel" in text:
            yield f"&coord:{self._database}:{{{space}/*"
        elif "key" in text:
            yield f"~coord:{{{space}/*"


def _listed(sentences: list[str]) -> str:
    """Join the distinct messages, without the prefix that coord's have in common."""
    said = [re.sub(r"^.*?: the server (denied access|refused): ", "", text) for text in sentences]
    return "; ".join(dict.fromkeys(said))
