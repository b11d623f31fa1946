"""A map of events in memory, for agents that should not need a server."""

from __future__ import annotations

import string
from collections import deque
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed

from coord.core.names import check_key
from coord.core.records import Applied, CaughtUp, Kind, Listing, Record, Revision
from coord.core.values import Json, encode
from coord.errors import HistoryLost

PLAIN = string.ascii_letters + string.digits + "/"


class Server:
    """The records and history of one map; faults are verbs and attributes.

    ``refuse`` answers an error for a call (its name and key) that shall fail, or None. While
    ``held`` is a list, calls wait in it until `answer`.
    """

    def __init__(self) -> None:
        self.standing: dict[str, Record] = {}
        self.history: list[Record] = []
        self.calls: list[tuple[str, str]] = []
        self.watches: list[Watch] = []
        self.refuse: Callable[[str, str], Exception | None] = lambda call, key: None
        self.held: list[Callable[[], None]] | None = None
        self.head = Revision(1, 0)

    def events(self, node: str) -> Events:
        """View the map as this node."""
        return Events(self, node)

    def latched(self) -> dict[str, Json]:
        """Answer what is latched: key to value."""
        return {key: record.value for key, record in self.standing.items() if record.latched}

    def kinds(self, key: str) -> list[str]:
        """Answer what happened to a key, in order."""
        return [str(record.kind) for record in self.history if record.key == key]

    def apply(self, node: str, kind: Kind, key: str, value: Json, only: Revision | None) -> Applied:
        """Do what apply.lua does with one operation."""
        stands = self.standing.get(key)
        latched = stands is not None and stands.latched
        meant = only is None or (stands is not None and stands.revision == only)
        done = latched and meant if kind is Kind.RESET else not latched
        if not done:
            return Applied(stands, first=False)
        self.head = Revision(self.head.generation, self.head.number + 1)
        record = Record("mount", key, kind, value, self.head, 0.0, node)
        self.standing[key] = record
        self.history.append(record)
        for watch in self.watches:
            watch.show(record)
        return Applied(record, first=True)

    def flush(self) -> None:
        """Lose everything."""
        self.standing.clear()
        self.history.clear()
        self.head = Revision(self.head.generation + 1, 0)
        for watch in list(self.watches):
            watch.end(HistoryLost("the server came back empty"))

    def answer(self) -> None:
        """Apply and answer the calls held back."""
        held, self.held = self.held or [], None
        for call in held:
            call()


class Events:
    """One node's view of the map: what `coord.EventMap` offers and the agent uses."""

    def __init__(self, server: Server, node: str) -> None:
        self.server = server
        self.node = node

    def fire(self, key: str, value: Json = True) -> Deferred[Applied]:
        """As EventMap.fire."""
        check_key(key)
        encode(value)
        return self._call("fire", key, lambda: self._apply(Kind.FIRED, key, value, None))

    def reset(self, key: str, revision: Revision | None = None) -> Deferred[Applied]:
        """As EventMap.reset."""
        check_key(key)
        return self._call("reset", key, lambda: self._apply(Kind.RESET, key, None, revision))

    def fail(self, key: str, reason: Json) -> Deferred[Applied]:
        """As EventMap.fail."""
        return self._call("fail", key, lambda: self._apply(Kind.FAILED, key, reason, None))

    def records(self, prefix: str = "") -> Deferred[Listing]:
        """As EventMap.records."""
        return self._call(
            "records",
            prefix,
            lambda: Listing(tuple(self.server.standing.values()), self.server.head),
        )

    def watch(self, prefix: str = "", *, since: Revision) -> Watch:
        """As EventMap.watch."""
        return Watch(self.server, since)

    def _apply(self, kind: Kind, key: str, value: Json, revision: Revision | None) -> Applied:
        return self.server.apply(self.node, kind, key, value, revision)

    def _call(self, name: str, key: str, applied: Callable[[], Any]) -> Deferred[Any]:
        self.server.calls.append((name, key))
        error = self.server.refuse(name, key)
        if error is not None:
            return fail(error)
        if self.server.held is None:
            return succeed(applied())
        answer: Deferred[Any] = Deferred()
        self.server.held.append(lambda: None if answer.called else answer.callback(applied()))
        return answer


class Watch:
    """The history since a revision, then live."""

    def __init__(self, server: Server, since: Revision) -> None:
        self._server = server
        self._coming: deque[Record | CaughtUp | Exception] = deque()
        self._asked: Deferred[Record | CaughtUp] | None = None
        if since.generation != server.head.generation:
            self._coming.append(HistoryLost("another generation"))
        self._coming.extend(record for record in server.history if record.revision > since)
        self._coming.append(CaughtUp(server.head))

    async def __aenter__(self) -> AsyncIterator[Record | CaughtUp]:
        self._server.watches.append(self)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._server.watches.remove(self)

    def __aiter__(self) -> AsyncIterator[Record | CaughtUp]:
        return self

    async def __anext__(self) -> Record | CaughtUp:
        self._asked = Deferred()
        self._serve()
        return await self._asked

    def show(self, record: Record) -> None:
        """Let it yield this record."""
        self._coming.append(record)
        self._serve()

    def end(self, error: Exception) -> None:
        """Let it end with this error."""
        self._coming.append(error)
        self._serve()

    def _serve(self) -> None:
        if self._asked is None or self._asked.called or not self._coming:
            return
        change = self._coming.popleft()
        if isinstance(change, Exception):
            self._asked.errback(change)
        else:
            self._asked.callback(change)


class Table:
    """A mountinfo file of our own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._mounts: dict[str, tuple[str, str, str]] = {}
        self._write()

    def mount(self, target: str, source: str = "none", fstype: str = "tmpfs", options: str = "rw,nosuid") -> None:
        """Write another line, or the same one anew (a remount)."""
        self._mounts[target] = (source, fstype, options)
        self._write()

    def umount(self, target: str) -> None:
        """Strike a line."""
        del self._mounts[target]
        self._write()

    def _write(self) -> None:
        lines = ["1 0 0:1 / / rw - proc proc rw\n"]
        for number, (target, (source, fstype, options)) in enumerate(self._mounts.items(), start=2):
            # Octal for all but the plain: more than the kernel does, and read in the same way.
            spelled = "".join(
                chr(byte) if chr(byte) in PLAIN else f"\\{byte:03o}"
                for byte in target.encode("utf-8", "surrogateescape")
            )
            lines.append(f"{number} 1 0:{number} / {spelled} {options} - {fstype} {source} rw,size=1k\n")
        self.path.write_text("".join(lines))
