"""Mistakes about acknowledgements: L13."""

from __future__ import annotations

from contextlib import ExitStack
from importlib import import_module
from typing import Any

from twisted.internet.defer import Deferred, succeed

from coord.client.acks import _AckWait
from coord.client.events import EventMap
from coord.client.watch import Watch
from coord.core.acks import Acknowledgements
from coord.core.history import Cursor
from coord.core.maps import MapState
from coord.core.records import Record
from simulation.breaking import replace, variant


@variant("an acknowledgement of an earlier firing counts", "L13", acked=True)
def _of_any_firing(stack: ExitStack) -> None:
    def init(wait: _AckWait, *arguments: Any) -> None:
        old(wait, *arguments)
        wait._prefix = ""

    def take(wait: _AckWait, record: Record) -> None:
        _, name, process = record.key.split("/")
        wait._known.acked(name, process)
        wait._due.add(name)

    old = replace(stack, _AckWait, "__init__", init)
    replace(stack, _AckWait, "_take_ack", take)


@variant("a process that has died is waited for", "L13", acked=True)
def _dead_awaited(stack: ExitStack) -> None:
    async def living(wait: _AckWait, name: str) -> frozenset[str]:
        seen = wait.__dict__.setdefault("seen", {})
        seen[name] = seen.get(name, frozenset()) | await old(wait, name)
        return frozenset(seen[name])

    old = replace(stack, _AckWait, "_living", living)


@variant("who has left is waited for", "L13", acked=True)
def _left_awaited(stack: ExitStack) -> None:
    replace(stack, Acknowledgements, "read_again", lambda known, name: None)


@variant("two processes of one name count as two towards a number", "L13", acked=True)
def _counted_twice(stack: ExitStack) -> None:
    def over(known: Acknowledgements) -> bool:
        counted = sum(len(known.acks_of(name)) for name in known._counted)
        return counted >= known._number > 0 or (not known._number and bool(old.fget(known)))

    old: Any = replace(stack, Acknowledgements, "over", property(over))


@variant("what was acknowledged while the link was down is not read on the next", "L13", acked=True)
def _not_read_again(stack: ExitStack) -> None:
    class Forgetful(Watch):
        async def _wait_subscribed(self) -> None:
            lost = self._caught_up and not self._session.doorbells.is_subscribed(self._map)
            await super()._wait_subscribed()
            if lost:
                head, _, _ = await self._read(b"+")
                self._cursor = Cursor(self._map.names.name, None)
                self._cursor.advance([], head)

    def watch(wait: _AckWait, map_state: MapState, prefix: str = "") -> Watch:
        return Forgetful(wait._session, map_state, prefix, "now")

    replace(stack, _AckWait, "_watch", watch)


@variant("a name counts with the first acknowledgement, whoever else lives under it", "L13", acked=True)
def _first_counts(stack: ExitStack) -> None:
    def found(known: Acknowledgements, name: str, living: frozenset[str], before: frozenset[str]) -> bool:
        return bool(old(known, name, living & before if before else living, before))

    old = replace(stack, Acknowledgements, "found", found)


@variant("a name that was never a member counts as left", "L13", acked=True)
def _strangers_left(stack: ExitStack) -> None:
    def found(known: Acknowledgements, name: str, living: frozenset[str], before: frozenset[str]) -> bool:
        known._members.add(name)
        return bool(old(known, name, living, before))

    old = replace(stack, Acknowledgements, "found", found)


@variant("who joins after the wait began is waited for, too", "L13", acked=True)
def _all_members(stack: ExitStack) -> None:
    def take(wait: _AckWait, record: Record) -> None:
        if not wait._number and record.latched:
            wait._known.want([record.key])
        old(wait, record)

    old = replace(stack, _AckWait, "_take_member", take)


@variant("what was acknowledged before the wait began is not read", "L13", acked=True)
def _only_later(stack: ExitStack) -> None:
    async def read(wait: _AckWait, of: str = "") -> None:
        if of:
            await old(wait, of)

    old = replace(stack, _AckWait, "_read_acks", read)


@variant("who leaves a name that others have is not noticed", "L13", acked=True)
def _leaver_unnoticed(stack: ExitStack) -> None:
    async def news(wait: _AckWait) -> None:
        told: Deferred[None] = Deferred()
        # An hour, where it should be a heartbeat.
        wait._timer = wait._session.clock.callLater(3_600, told.callback, None)
        if wait._failure is None:
            try:
                await told
            finally:
                if wait._timer.active():
                    wait._timer.cancel()
        failure, wait._failure = wait._failure, None
        if failure is not None:
            failure.raiseException()

    replace(stack, _AckWait, "_news", news)


@variant("an acknowledgement is under the node's name alone", "L13", acked=True)
def _of_the_name(stack: ExitStack) -> None:
    def take(wait: _AckWait, record: Record) -> None:
        name, _, _ = record.key.removeprefix(wait._prefix).partition("/")
        wait._known.acked(name, "any")
        wait._due.add(name)

    async def living(wait: _AckWait, name: str) -> frozenset[str]:
        return frozenset({"any"} if await old(wait, name) else ())

    old = replace(stack, _AckWait, "_living", living)
    replace(stack, _AckWait, "_take_ack", take)


# On a cluster, where the members may be on another server than the map.


@variant("who lives is remembered from the server that the members have left", "L13", acked=True, sharded=True)
def _lives_at_the_old_server(stack: ExitStack) -> None:
    async def living(wait: _AckWait, name: str) -> frozenset[str]:
        server = wait._registry.commands.server_process
        seen = wait.__dict__.setdefault("seen", {})
        if wait.__dict__.setdefault("server", server) == server or name not in seen:
            seen[name] = await old(wait, name)
        return frozenset(seen[name])

    old = replace(stack, _AckWait, "_living", living)


@variant("an acknowledgement on a map that has left its server counts as sent", "L13", acked=True, sharded=True)
def _sent_where_it_was(stack: ExitStack) -> None:
    def ack(events: EventMap, record: Any, **options: Any) -> Deferred[None]:
        link: Any = events._session.link
        return succeed(None) if link.moving and not link.up else old(events, record, **options)

    old = replace(stack, EventMap, "ack", ack)


@variant("what a guest does not find is not there", "L13", acked=True, sharded=True)
def _guest_finds_all(stack: ExitStack) -> None:
    replace(stack, import_module("coord.link.open_move"), "_READS", ())
