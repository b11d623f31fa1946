"""One node in a process of its own: told what to do by JSON lines on stdin, it tells what happened on stdout.

Every line has ``e`` (what happened) and ``t`` (the monotonic clock, which all processes of a machine share). A call is
told of before it is made and an answer after it came, so that a process that is killed has hidden nothing it did.
The process ends with its parent, whatever happens to that.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from random import Random
from time import monotonic
from typing import Any, Final

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import connectionDone
from twisted.internet.stdio import StandardIO
from twisted.internet.task import deferLater
from twisted.logger import LogLevel, eventAsText, globalLogBeginner
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure

import coord
from coord import Applied, CaughtUp, EventFailed, Record
from coord.clock import steady

reactor: Any = _reactor
clock = steady(reactor)

MAPS: Final = ("a", "b")
BARRIER: Final = "barrier"
CLIENTS: Final = 5
PAUSE: Final = 0.03
"""Seconds that a client pauses between two steps, at most."""

MOST_WAITS: Final = 120

COPY_CALLS: Final = 8
CHILD_CALLS: Final = 150
"""Calls of the child of a fork: on its copy of the parent's node, and on its own."""


def tell(event: str, **said: object) -> None:
    """Write one line, at once."""
    line = json.dumps({"e": event, "t": monotonic(), **said}).encode() + b"\n"
    while line:
        line = line[os.write(1, line) :]


def start(steps: Coroutine[Any, Any, object]) -> None:
    """Run ``steps`` on their own; an error in them is a problem of the test's."""
    Deferred.fromCoroutine(steps).addErrback(lambda failure: tell("problem", text=failure.getTraceback()))


def _identity(value: object) -> object:
    return value.get("id") if isinstance(value, dict) else repr(value)


class Waits:
    """The waits of one node on one map, and what became of them."""

    def __init__(self, node: Node, events: coord.EventMap) -> None:
        self.pending: dict[int, Deferred[Any]] = {}
        self._node = node
        self._events = events
        self._latest = 0
        self._arming = False

    def make(self, key: str, *, timeout: float | None = None, again: bool = False) -> int:
        """Wait for ``key``; ``again``: once more in the callback."""
        number = self._latest = self._node.next_number()
        tell("wait", id=number, map=self._events.name, key=key)
        waiting = self._events.wait(key, timeout)
        self.pending[number] = waiting
        waiting.addBoth(self._resolved, number, key, again)
        if number in self.pending and not self._arming:
            self._arming = True
            start(self._arm())
        return number

    def cancel(self, number: int) -> None:
        """Take a wait back."""
        self.pending[number].cancel()

    async def _arm(self) -> None:
        armed = 0
        while self._latest > armed:
            latest = self._latest
            try:
                await self._events.armed()
            except coord.Closed:
                break  # the program ends before its waits are armed
            armed = latest
            tell("armed", map=self._events.name, upto=armed)
        self._arming = False

    def _resolved(self, result: object, number: int, key: str, again: bool) -> None:
        self.pending.pop(number, None)
        if not isinstance(result, Failure):
            tell("woken", id=number, value=_identity(result))
        elif isinstance(result.value, EventFailed):
            tell("woken", id=number, value=_identity(result.value.reason), failed=True)
        else:
            tell("woken", id=number, error=type(result.value).__name__)
            return
        if again and self._node.loading:
            self.make(key)


class Watching:
    """A watch that begins again wherever it ended."""

    def __init__(self, node: Node, events: coord.EventMap) -> None:
        self.last: object = None
        self._node = node
        self._events = events

    async def run(self, since: str) -> None:
        """Follow the map until the node is closed."""
        while True:
            number = self._node.next_number()
            tell("watch", id=number, map=self._events.name, since=since)
            try:
                async with self._events.watch(since=since) as changes:
                    async for change in changes:
                        since = str(change.revision)
                        self._seen(number, change)
            except coord.Closed:
                return
            except coord.HistoryLost as error:
                tell("watch-ended", id=number, error="HistoryLost", text=str(error))
                since = "start"
            except coord.AccessDenied as error:
                tell("watch-ended", id=number, error="AccessDenied", text=str(error))
                try:
                    await self._node.coordinator.connected()
                except coord.AccessDenied:
                    continue

    def _seen(self, number: int, change: Record | CaughtUp) -> None:
        if isinstance(change, CaughtUp):
            tell("caught-up", id=number, revision=str(change.revision))
            return
        self.last = _identity(change.value)
        tell("seen", id=number, revision=str(change.revision), kind=change.kind, key=change.key, value=self.last)


class Node:
    """One coordinator, its load, and the commands it obeys."""

    def __init__(self, name: str, url: str, seed: int, options: dict[str, Any]) -> None:
        self.name = name
        self.loading = False
        self.random = Random(seed)
        self._numbers = 0
        self._under_way = 0
        self._answers = 0
        self._clients = 0
        self._revisions: dict[tuple[str, str], str] = {}
        self.coordinator = coord.connect(url, node=name, **options)
        self.coordinator.on_link(lambda state, reason: tell("link", state=state, reason=reason))
        self.maps = {name: self.coordinator.events(name) for name in MAPS}
        self.waits = {name: Waits(self, events) for name, events in self.maps.items()}
        self.watching = {name: Watching(self, events) for name, events in self.maps.items()}

    def next_number(self) -> int:
        """Return a number that nothing else of this node has."""
        self._numbers += 1
        return self._numbers

    # Calls.

    def call(self, map_name: str, kind: str, key: str, **options: Any) -> Any:
        """Make one call; the Deferred is called back whatever comes of it."""
        identity = f"{self.name}:{self.next_number()}"
        tell("call", id=identity, map=map_name, kind=kind, key=key, revision=options.get("revision"))
        events = self.maps[map_name]
        changes: dict[str, Any] = {
            "fired": events.fire,
            "failed": events.fail,
            "pulsed": events.pulse,
            "reset": events.reset,
        }
        self._under_way += 1
        value = () if kind == "reset" else ({"id": identity},)
        made = changes[kind](key, *value, **options)
        return made.addBoth(self._answered, identity, map_name, key)

    def _answered(self, result: Applied | Failure, identity: str, map_name: str, key: str) -> None:
        self._under_way -= 1
        self._answers += 1
        if isinstance(result, Failure):
            tell("answer", id=identity, error=type(result.value).__name__, text=result.getErrorMessage())
            return
        record = result.record
        if record is None:
            tell("answer", id=identity, first=result.first, revision=None)
            return
        self._revisions[map_name, key] = str(record.revision)
        tell("answer", id=identity, first=result.first, revision=str(record.revision), latched=record.latched)

    async def look(self, map_name: str, key: str) -> None:
        """Ask what stands for a key."""
        number = self.next_number()
        tell("look", id=number, map=map_name, key=key)
        try:
            record = await self.maps[map_name].record(key)
        except coord.Error as error:
            tell("looked", id=number, error=type(error).__name__)
            return
        tell("looked", id=number, revision=None if record is None else str(record.revision))

    # The load.

    def load(self) -> None:
        """Begin to wait, fire, fail, pulse, reset, cancel and look, at random."""
        self.loading = True
        while self._clients < CLIENTS:
            self._clients += 1
            start(self._client())

    async def _client(self) -> None:
        try:
            while self.loading:
                await self._step()
                await deferLater(clock, self.random.uniform(0, PAUSE))
        finally:
            self._clients -= 1

    async def _step(self) -> None:
        random = self.random
        steps: list[Callable[[str], Any]] = [self._wait, self._fire, self._fail, self._pulse, self._reset]
        steps += [self._cancel, self._burst, self._look, self._blink]
        (step,) = random.choices(steps, (30, 20, 4, 12, 18, 8, 3, 3, 6))
        done = step(random.choice(MAPS))
        if done is not None:
            await done

    def _key(self) -> str:
        """A few keys that all fight for, and many that are quiet."""
        random = self.random
        return f"hot{random.randrange(8)}" if random.random() < 0.6 else f"cold{random.randrange(150)}"

    def _options(self) -> dict[str, Any]:
        """Some callers are in a hurry."""
        return {"timeout": self.random.uniform(0.05, 1.5)} if self.random.random() < 0.1 else {}

    def _wait(self, map_name: str) -> None:
        random, waits = self.random, self.waits[map_name]
        for _ in range(random.randrange(1, 4)):
            if len(waits.pending) < MOST_WAITS:
                timeout = random.uniform(0.1, 2.0) if random.random() < 0.05 else None
                waits.make(self._key(), timeout=timeout, again=random.random() < 0.3)

    def _fire(self, map_name: str) -> Any:
        return self.call(map_name, "fired", self._key(), **self._options())

    def _fail(self, map_name: str) -> Any:
        return self.call(map_name, "failed", self._key(), **self._options())

    def _pulse(self, map_name: str) -> Any:
        return self.call(map_name, "pulsed", self._key(), **self._options())

    def _reset(self, map_name: str) -> Any:
        key, options = self._key(), self._options()
        known = self._revisions.get((map_name, key))
        if known and self.random.random() < 0.3:
            options["revision"] = known
        return self.call(map_name, "reset", key, **options)

    def _cancel(self, map_name: str) -> None:
        waits = self.waits[map_name]
        if waits.pending:
            waits.cancel(self.random.choice(list(waits.pending)))

    async def _burst(self, map_name: str) -> None:
        """Make calls that travel together, and a wait right behind each."""
        kinds = self.random.choices(("fired", "pulsed", "reset"), k=12)
        made = []
        for kind in kinds:
            key = self._key()
            made.append(self.call(map_name, kind, key))
            if len(self.waits[map_name].pending) < MOST_WAITS:
                self.waits[map_name].make(key)
        for each in made:
            await each

    async def _blink(self, map_name: str) -> None:
        """Fire and reset at once: who is away meanwhile has only the last wake to go by."""
        key = f"cold{self.random.randrange(150)}"
        await self.call(map_name, "fired", key)
        await self.call(map_name, "reset", key)

    async def _look(self, map_name: str) -> None:
        await self.look(map_name, self._key())

    # What it is told.

    async def do_load(self) -> None:
        """Begin."""
        self.load()

    async def do_hold(self) -> None:
        """Make no new calls, and say when all are answered."""
        self.loading = False
        while self._clients or self._under_way:
            await deferLater(clock, 0.005)
        tell("held")

    async def do_barrier(self, number: int) -> None:
        """Wait for a pulse on each map, then say when everything before it has been seen here."""
        for name, waits in self.waits.items():
            barrier = waits.make(BARRIER)
            await self.maps[name].armed()
            start(self._passed(name, barrier, number))
        tell("at-barrier", number=number)

    async def _passed(self, name: str, barrier: int, number: int) -> None:
        waits, events = self.waits[name], self.maps[name]
        while barrier in waits.pending:
            await deferLater(clock, 0.002)
        # Twice there and back: a message of a new generation has the head read, and voids what that shows to be lost.
        for _ in range(2):
            standing = await events.record(BARRIER)
            await events.armed()
        assert standing is not None
        while self.watching[name].last != _identity(standing.value):
            await deferLater(clock, 0.002)
        await events.armed()
        while self._under_way:
            # We may be the one who lets everybody pass, and be about to do so on the next map.
            await deferLater(clock, 0.002)
        now = self.coordinator.statistics()
        pending = sum(len(each.pending) for each in self.waits.values())
        tell("quiet", number=number, map=name, waiters=now.waiters, pending=pending, calls=now.pending_calls)

    async def do_pulse_barrier(self) -> None:
        """Let everybody pass."""
        for name in MAPS:
            await self.call(name, "pulsed", BARRIER)

    async def do_watch(self, since: str) -> None:
        """Follow all maps."""
        for watching in self.watching.values():
            start(watching.run(since))

    async def do_wait(
        self,
        map: str,  # noqa: A002 - as in the history
        keys: list[str],
        mark: str,
        timeout: float | None = None,
    ) -> None:
        """Wait for some keys, and say when all are armed or resolved."""
        for key in keys:
            self.waits[map].make(key, timeout=timeout)
        await self.maps[map].armed()
        tell("waiting", mark=mark)

    async def do_call(self, map: str, kind: str, keys: list[str], mark: str) -> None:  # noqa: A002
        """Make calls one after the other, and say when all are answered."""
        for key in keys:
            await self.call(map, kind, key)
        tell("called", mark=mark)

    async def do_fork(self) -> None:
        """Fork while everything goes on; a child that uses the copy of this node, and closes it, ends at once."""
        told, tells = os.pipe()
        child = os.fork()
        if not child:
            # What the handlers of the copy say is not this node's.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.write(tells, self._as_a_copy().encode())
            os._exit(0)
        os.close(tells)
        with os.fdopen(told) as file:
            for line in file:
                tell("problem", text=f"in a child: {line}")
        os.waitpid(child, 0)
        tell("forked")

    def _as_a_copy(self) -> str:
        """Use a copy and close it; return what is wrong with it, if anything."""
        ended: list[object] = []
        events = self.maps[MAPS[0]]
        for each in (events.fire("copy"), events["copy"], events.record("copy"), self.coordinator.connected()):
            each.addBoth(ended.append)
        self.coordinator.close()
        words = [str(each.value) for each in ended if isinstance(each, Failure) and each.check(coord.Closed)]
        right = len(words) == 4 and all("made before a fork" in each for each in words)
        return "" if right else f"a copy was not ended: {ended}"

    async def run_once(self, answers: int) -> None:
        """Work until so many calls are answered; close, and end the process."""
        self.load()
        first = self._answers
        while self._answers < first + answers:
            await deferLater(clock, 0.01)
        await self.do_hold()
        await self.do_close()

    async def do_close(self) -> None:
        """Close the node and end."""
        await self.coordinator.close()
        tell("closed", pending=sum(len(each.pending) for each in self.waits.values()))
        reactor.stop()

    def obey(self, command: dict[str, Any]) -> None:
        """Do one thing."""
        verb = command.pop("do")
        start(getattr(self, f"do_{verb}")(**command))


class _Commands(LineOnlyReceiver):
    delimiter = b"\n"

    def __init__(self, node: Node) -> None:
        self._node = node

    def lineReceived(self, line: bytes) -> None:
        self._node.obey(json.loads(line))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if reactor.running:
            reactor.stop()


def _observe(event: Any) -> None:
    """An error in the log is a problem; a warning is worth knowing."""
    level = event["log_level"]
    if level >= LogLevel.warn:
        text = eventAsText(event)
        tell("warning" if level is LogLevel.warn else "problem", text=text)


def _child(node: Node, number: int, folder: Path, make: Callable[[str, int], Node]) -> None:
    """Live on as the child of a fork: call on the copy first, then as a node of its own."""
    # Whatever goes wrong, it is not left behind.
    signal.alarm(60)
    name = f"{node.name}.child{number}"
    told = os.open(folder / f"{name}.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(told, 1)
    node.name = f"{name}.copy"
    for key in range(COPY_CALLS):
        node.call(MAPS[0], "fired", f"{name} {key}", timeout=3.0)
    start(make(name, number).run_once(CHILD_CALLS))
    reactor.run()
    os._exit(0)


def main() -> None:
    """Run one node until stdin ends; with ``forks`` among its options, and so many children of it."""
    name, url, seed, text = sys.argv[1:]
    options = json.loads(text)
    forks, folder = options.pop("forks", 0), Path(options.pop("folder", "."))
    observers: list[Any] = [_observe]
    globalLogBeginner.beginLoggingTo(observers, discardBuffer=True, redirectStandardIO=False)
    node = Node(name, url, int(seed), options)
    for number in range(forks):
        if not os.fork():
            _child(node, number, folder, lambda name, number: Node(name, url, int(seed) + number + 1, options))
    # What is said goes past the reactor, so that it is out at once; this is for listening only.
    stdio: Any = StandardIO
    stdio(_Commands(node), stdout=os.open(os.devnull, os.O_WRONLY))
    tell("ready", pid=os.getpid(), incarnation=node.coordinator.incarnation)
    reactor.run()


if __name__ == "__main__":
    main()
