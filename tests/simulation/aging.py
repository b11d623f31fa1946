"""What stays on the server: of calls that were answered, and of a map when nobody has used it for long."""

from __future__ import annotations

from coord.core.names import HEAD, MapNames
from coord.core.records import Kind
from simulation.history import Key
from simulation.users import Users
from simulation.world import World

__all__ = ["Aging"]

_LONG = 7_500.0
"""Seconds: over twice the hour for which what is pending, and what calls came to, is kept."""

_IDLE = 200
"""Bytes that may stay of a map in which nothing is latched."""

_BEATS = 12
"""Heartbeats, and calls on another map, in which a node that comes later has to have cleared away what is due."""


class Aging:
    """The look at the end of a run: time passes, another node comes and uses another map."""

    def __init__(self, world: World, users: Users) -> None:
        self.world = world
        self.users = users
        self._latched: set[Key] = set()

    def look(self) -> None:
        """An outcome holds no value, however many there are: a few bytes a call."""
        for name, names in self.world.names.items():
            for field, value in self._fields(names).items():
                if field.startswith(b"\0call:") and b'{"n":' in value:
                    self._wrong(f"an outcome on {name} holds a value: {len(value)} bytes")

    def begin(self) -> None:
        """Latch a key of one map, half of the time."""
        if self.world.setup.seed % 8:
            where = self.world.where(0)
            self._latched.add(where)
            self.users.make_call(self.world.nodes[0], where, Kind.FIRED)
            self.world.rest()

    def end(self) -> None:
        """Let everything become old, have a node come, and look at what is left."""
        world = self.world
        world.clock.advance(_LONG + world.set_back)
        world.nodes = [node := world.new_node(0)]
        events = node.coordinator.events("elsewhere")
        for _ in range(_BEATS):
            events.pulse("k").addErrback(lambda _: None)
            world.clock.advance(world.setup.heartbeat + world.setup.slowest)
        for name, names in world.names.items():
            self._check(name, names)
        self.users.shut(node)
        world.clock.advance(0.1 + 4 * world.setup.slowest)

    def _check(self, name: str, names: MapNames) -> None:
        fields = self._fields(names)
        latched = {key.encode() for map_name, key in self._latched if map_name == name}
        gone = latched - fields.keys()
        if gone:
            self._wrong(f"{name}: {gone} were latched, and are gone")
        clock = fields.pop(b"\0clock", b"")
        if clock and not self.world.setup.held:
            self._wrong(f"{name}: a lease clock, and nothing was held")
        left = fields.keys() - latched - {HEAD}
        if left:
            self._wrong(f"{name}: {sorted(left)} are left of what was due long ago")
        size = sum(map(len, (*fields, *fields.values())))
        item = self.world.books(name).place.item
        others = [key for key in (names.log, names.due, names.entries) if item(key) is not None]
        if not latched and (others or size > _IDLE):
            self._wrong(f"{name}: {size} bytes and {others} are left, and nothing is latched")

    def _fields(self, names: MapNames) -> dict[bytes, bytes]:
        item = self.world.books(names.name).place.item(names.records)
        return dict(item.value) if item is not None else {}

    def _wrong(self, words: str) -> None:
        self.world.history.wrong.append(("kept", words))
