"""Looks at a map that only operators need: who holds a key by which rule, and what is waited for."""

from __future__ import annotations

from functools import partial
from typing import Final, NamedTuple

from twisted.internet.defer import Deferred

from coord.client.acks import acked_so_far, change_of, checked_by
from coord.client.events import EventMap
from coord.client.holds import Holder, need_of, parse_holders
from coord.core.acks import Acks
from coord.core.history import parse_entry
from coord.core.names import check_key
from coord.core.records import Kind, Revision, StoredRecord

__all__ = ["Awaited", "Held", "acks_of", "awaited", "held_by", "is_change_of"]

_MOST: Final = 10_000
"""Channels that are looked at: more would keep the server busy for long."""

_RECORDS_A_READ: Final = 50
"""A record may have 64 KiB."""

_CHANNELS_A_COUNT: Final = 1_000


class Held(NamedTuple):
    """Who holds a key: ``number`` do, and ``holders`` are the oldest; ``need`` must (0: a lock, or nobody does)."""

    need: int
    number: int
    holders: list[Holder]


async def held_by(events: EventMap, key: str, limit: int) -> Held:
    """Ask the server who holds a key; raise what a query raises."""
    encoded, names, commands = check_key(key), events._map.names, events._commands
    asked = commands.retry_while_reconnecting(lambda: commands.holders(names, encoded, limit), key)
    reply = await commands.with_deadline(Deferred.fromCoroutine(asked))
    return Held(need_of(reply), *parse_holders(reply))


def acks_of(events: EventMap, revision: Revision | str, by: tuple[str, ...] | int | str) -> Deferred[Acks]:
    """Ask who has acknowledged a change until now, and who of ``by`` is missing; see ``EventMap.acked``."""
    return acked_so_far(events._session, events.name, change_of(revision, events.name), checked_by(by))


async def is_change_of(events: EventMap, revision: Revision, key: str) -> bool:
    """Whether the change with this revision is one of this key, as far as the history still has it."""
    encoded, names, commands = check_key(key), events._map.names, events._commands
    after = b"%d-%d" % (revision.generation, revision.number - 1) if revision.number else b"+"
    asked = commands.retry_while_reconnecting(lambda: commands.history(names, after, 1, 1), key)
    reply = await commands.with_deadline(Deferred.fromCoroutine(asked))
    lines = [line for each in reply.entries[:1] for line in parse_entry(names.name, *each, {})]
    return any(line.revision == revision and line.key == encoded for line in lines)


class Awaited(NamedTuple):
    """A key that nodes are subscribed to and that is not latched, and the kind of its last change."""

    key: str
    subscribers: int
    kind: Kind | None


async def awaited(events: EventMap) -> tuple[list[Awaited], bool]:
    """Return the keys of a map that are waited for and not latched, and whether there may be more than these.

    It costs the server a visit of all its channels. It raises what a query raises.
    """
    return await events._commands.with_deadline(Deferred.fromCoroutine(_awaited(events)))


async def _awaited(events: EventMap) -> tuple[list[Awaited], bool]:
    names, commands = events._map.names, events._commands
    # Neither the name of a map nor that of a namespace has a character that a pattern gives a meaning.
    pattern = names.prefix + b"*"
    subscribed = await commands.retry_while_reconnecting(lambda: commands.channels(pattern), names.name)
    channels = sorted(subscribed)
    some = channels[:_MOST]
    kinds: dict[bytes, Kind | None] = {}
    for start in range(0, len(some), _RECORDS_A_READ):
        kinds |= await _unlatched(events, some[start : start + _RECORDS_A_READ])
    counts = await _counts(events, list(kinds))
    found = [Awaited(names.key_of(channel), count, kinds[channel]) for channel, count in counts.items() if count]
    return found, len(channels) > len(some)


async def _counts(events: EventMap, channels: list[bytes]) -> dict[bytes, int]:
    names, commands = events._map.names, events._commands
    counts: dict[bytes, int] = {}
    for start in range(0, len(channels), _CHANNELS_A_COUNT):
        part = channels[start : start + _CHANNELS_A_COUNT]
        reply = await commands.retry_while_reconnecting(partial(commands.count_subscribers, part), names.name)
        counts |= zip(part, reply, strict=True)
    return counts


async def _unlatched(events: EventMap, channels: list[bytes]) -> dict[bytes, Kind | None]:
    """Return the channels of keys that are not latched, with the kind of the last change of each."""
    names, commands = events._map.names, events._commands
    keys = [channel.removeprefix(names.prefix) for channel in channels]
    _, *payloads = await commands.retry_while_reconnecting(lambda: commands.read(names, keys), names.name)
    found: dict[bytes, Kind | None] = {}
    for channel, payload in zip(channels, payloads, strict=True):
        try:
            stored = None if payload is None else StoredRecord.parse(payload)
        except ValueError:
            # It is shown as corrupt elsewhere.
            continue
        if stored is None or not stored.latched:
            found[channel] = None if stored is None else stored.kind
    return found
