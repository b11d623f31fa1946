"""A cluster in memory: servers that share the slots, pass them on key by key, and fail over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from fakeredis._helpers import SimpleError

from coord.testing._shapes import Clock
from memory.connection import Connection
from memory.server import MemoryServer
from memory.sharded import ShardCommands
from memory.slots import SLOTS, Owners, Place, Run, SlotTable, slot_of

__all__ = ["Flavour", "MemoryCluster", "ShardServer"]

Flavour = Literal["redis", "valkey"]
_HOST = "127.0.0.1"
_BUS = 10_000


class _Connection(Connection):
    def serve(self, address: str) -> ShardCommands:
        return ShardCommands(self.server, self, address)  # type: ignore[arg-type]  # it is a ShardServer


class ShardServer(MemoryServer):
    """A server of a cluster; ``slots`` is what it knows of them. See `MemoryCluster`."""

    def __init__(self, clock: Clock, cluster: MemoryCluster, port: int) -> None:
        super().__init__(clock)
        self._cluster = cluster
        self.port = port
        self.slots = SlotTable(Place(self.run_id, _HOST, port))
        self.epoch = 0

    @property
    def id(self) -> str:
        """What the others call it."""
        return self.slots.own.id

    def accept(self) -> Connection:
        return _Connection(self)

    def info(self) -> dict[str, dict[str, str]]:
        """Return what INFO says."""
        known = super().info()
        valkey = self._cluster.flavour == "valkey"
        known["server"] |= {"tcp_port": str(self.port), "redis_mode": "cluster"}
        if valkey:
            del known["server"]["redis_mode"]
            known["server"] |= {"server_mode": "cluster", "valkey_version": "9.1.2", "redis_version": "7.2.4"}
        return {**known, "cluster": {"cluster_enabled": "1"}}

    # --- its slots -------------------------------------------------------------------------

    def keys_in(self, slot: int) -> list[bytes]:
        """Return the keys of a slot that it has."""
        return sorted(key for key in self.fake.dbs[0] if slot_of(key) == slot)

    def set_slot(self, slot: int, words: Sequence[str]) -> None:
        """Do what CLUSTER SETSLOT does."""
        match [words[0].upper(), *words[1:]]:
            case ["STABLE"]:
                self.slots.migrating.pop(slot, None)
                self.slots.importing.pop(slot, None)
            case ["MIGRATING", node]:
                self._migrate(slot, self._cluster.place(node))
            case ["IMPORTING", node]:
                if self.slots.owns(slot):
                    raise SimpleError(f"ERR I'm already the owner of hash slot {slot}")
                self.slots.importing[slot] = self._cluster.place(node)
            case ["NODE", node]:
                self._give(slot, self._cluster.place(node))
            case _:
                raise SimpleError("ERR Invalid CLUSTER SETSLOT action or number of arguments. Try CLUSTER HELP")

    def _migrate(self, slot: int, target: Place) -> None:
        if not self.slots.owns(slot):
            raise SimpleError(f"ERR I'm not the owner of hash slot {slot}")
        self.slots.migrating[slot] = target

    def _give(self, slot: int, owner: Place) -> None:
        if self.slots.owns(slot) and owner != self.slots.own and self.keys_in(slot):
            raise SimpleError(
                f"ERR Can't assign hashslot {slot} to a different node while I still hold keys for this hash slot."
            )
        self.slots.migrating.pop(slot, None)
        came = owner == self.slots.own and self.slots.importing.pop(slot, None) is not None
        was = self.slots.owns(slot)
        known = self.slots.owners.at(slot)
        epoch = self._cluster.next_epoch() if came else known.epoch if known else 0
        self.slots.owners.put(Run(slot, slot, epoch, owner))
        # Valkey takes its guests for subscribers of a slot that has changed hands, although it has come to them.
        if (was and owner != self.slots.own) or (came and self._cluster.flavour == "valkey"):
            self.push_away(slot)
        if came:
            self._cluster.gossip(self, slot)

    def learn(self, news: Run) -> None:
        """Hear by the bus who owns some slots; a later epoch wins."""
        for run in self.slots.owners.older(news):
            held = [slot for slot in self._in_use() if run.first <= slot <= run.last and self.slots.owns(slot)]
            self.slots.owners.put(run)
            for slot in held if run.owner != self.slots.own else ():
                self.slots.migrating.pop(slot, None)
                for key in self.keys_in(slot):
                    del self.fake.dbs[0][key]
                self.push_away(slot)

    def _in_use(self) -> set[int]:
        """Return the slots of which it has a key or a subscriber, or that move from it."""
        return {*map(slot_of, self.fake.dbs[0]), *map(slot_of, self.fake.ssubscribers), *self.slots.migrating}

    def push_away(self, slot: int | None) -> None:
        """Unsubscribe everybody from the channels of a slot, or of all, and tell them."""
        for channel, members in list(self.fake.ssubscribers.items()):
            if slot is None or slot_of(channel) == slot:
                for member in list(members):
                    member.lose_channel(channel)

    def pass_on(self, port: int, keys: Sequence[bytes], *, replace: bool) -> bool:
        """Move keys to another server, as MIGRATE does; return whether there was one."""
        there = self._cluster.at(port)
        moved = [key for key in keys if key in self.fake.dbs[0]]
        for key in moved:
            slot = slot_of(key)
            if not (there.slots.owns(slot) or slot in there.slots.importing):
                raise SimpleError(f"ERR Target instance replied with error: MOVED {slot} {there.slots.owner(slot)}")
            if key in there.fake.dbs[0] and not replace:
                raise SimpleError("ERR Target instance replied with error: BUSYKEY Target key name already exists.")
            there.fake.dbs[0]._dict[key] = self.fake.dbs[0]._dict.pop(key)
        return bool(moved)

    # --- looks -----------------------------------------------------------------------------

    def describe(self) -> str:
        """Return what CLUSTER NODES says."""
        return "".join(f"{self._line(server)}\n" for server in self._cluster.servers)

    def _line(self, server: ShardServer) -> str:
        place, primary = server.slots.own, server.slots.primary
        flags = ("myself," if server is self else "") + ("master" if primary is None else "slave")
        of = "-" if primary is None else primary.id
        words = [place.id, f"{place}@{place.port + _BUS}", flags, of, "0", "0", str(server.epoch), "connected"]
        for first, last, owner in self.slots.ranges():
            if owner == place:
                words.append(str(first) if first == last else f"{first}-{last}")
        if server is self:
            words += [f"[{slot}->-{to.id}]" for slot, to in self.slots.migrating.items()]
            words += [f"[{slot}-<-{of.id}]" for slot, of in self.slots.importing.items()]
        return " ".join(words)

    def state(self) -> str:
        """Return what CLUSTER INFO says."""
        fields = {
            "cluster_state": "fail" if self.slots.down else "ok",
            "cluster_slots_assigned": sum(run.last - run.first + 1 for run in self.slots.owners.runs),
        }
        return "".join(f"{name}:{value}\r\n" for name, value in fields.items())

    def published(self, channel: bytes, message: bytes) -> None:
        """Have those hear it that are subscribed at a replica: the bus brings it."""
        for server in self._cluster.servers:
            if server.slots.primary == self.slots.own:
                for member in list(server.fake.ssubscribers.get(channel, ())):
                    member.put_response([b"smessage", channel, message])


class MemoryCluster:
    """Servers in memory that share the slots evenly.

    Nothing happens by itself: a test sends CLUSTER SETSLOT and MIGRATE as an operator does. What a server has learnt
    of a slot reaches the others ``bus_delay`` seconds later (None: when `gossip` is called); so an answer to CLUSTER
    SLOTS lags. `SlotTable.down` makes a server say CLUSTERDOWN.

    :param flavour: whose habits the servers have where the two differ.
    :param ports: one for each server; it is for the test to have them lead there (`Wires`, or `reactor.listenTCP`).
    """

    def __init__(self, clock: Clock, flavour: Flavour = "redis", ports: Sequence[int] = (7001, 7002)) -> None:
        self.clock = clock
        self.flavour = flavour
        self.bus_delay: float | None = 0.0
        self._epoch = primaries = len(ports)
        self.servers = [self.new_server(port) for port in ports]
        for number, server in enumerate(self.servers):
            server.epoch = number + 1
            run = Run(
                SLOTS * number // primaries, SLOTS * (number + 1) // primaries - 1, server.epoch, server.slots.own
            )
            for each in self.servers:
                each.slots.owners.put(run)

    def new_server(self, port: int) -> ShardServer:
        """Return a server that belongs to it."""
        return ShardServer(self.clock, self, port)

    def at(self, port: int) -> ShardServer:
        """Return the server at a port."""
        return next(server for server in self.servers if server.port == port)

    def place(self, name: str) -> Place:
        """Return the address of the server that the others call by this name."""
        for server in self.servers:
            if server.id == name:
                return server.slots.own
        raise SimpleError(f"ERR Unknown node {name}")

    def owner(self, slot: int) -> ShardServer:
        """Return the server that owns a slot and knows it."""
        return next(server for server in self.servers if server.slots.owns(slot))

    def next_epoch(self) -> int:
        """Return a number that makes what is learnt now newer than what was before."""
        self._epoch += 1
        return self._epoch

    def gossip(self, source: ShardServer, slot: int | None = None, *, now: bool = False) -> None:
        """Tell the others that a server owns a slot, or all it owns: now, or as late as the bus is."""
        news = [run for run in source.slots.owners.runs if run.owner == source.slots.own]
        if slot is not None:
            news = [replace(run, first=slot, last=slot) for run in news if run.first <= slot <= run.last]
        if now:
            self._tell(source, news)
        elif self.bus_delay is not None:
            self.clock.callLater(self.bus_delay, self._tell, source, news)

    def _tell(self, source: ShardServer, news: Sequence[Run]) -> None:
        for server in self.servers:
            if server is not source and server.running:
                for run in news:
                    server.learn(run)

    def add_replica(self, primary: ShardServer, port: int) -> ShardServer:
        """Return a new server that is a primary's replica."""
        replica = self.new_server(port)
        replica.slots.owners = Owners(primary.slots.owners.runs)
        self._follow(replica, primary)
        self.servers.append(replica)
        primary.attach(1)
        return replica

    def fail_over(self, primary: ShardServer) -> ShardServer:
        """Have a primary and its replica change places in order: nothing is lost; return the new primary.

        So the replica knows which slots its primary has given away: else it would take them back, without their keys.
        """
        replica = next(server for server in self.servers if server.slots.primary == primary.slots.own)
        replica.restore(primary.snapshot())
        replica.promote()
        replica.slots.primary = None
        replica.epoch = epoch = self.next_epoch()
        for run in primary.slots.owners.runs:
            if run.owner == primary.slots.own:
                replica.slots.owners.put(replace(run, epoch=epoch, owner=replica.slots.own))
            else:
                replica.slots.owners.hand_on(run, primary.slots.own)
        # The primary knows at once, for it has stopped to be one; the others learn it by the bus.
        primary.slots.owners = Owners(replica.slots.owners.runs)
        primary.slots.migrating.clear()
        self._follow(primary, replica)
        primary.push_away(None)
        if self.flavour == "valkey":
            replica.push_away(None)
        self.gossip(replica)
        return replica

    @staticmethod
    def _follow(replica: ShardServer, primary: ShardServer) -> None:
        replica.follow(primary.replid)
        replica.slots.primary = primary.slots.own
