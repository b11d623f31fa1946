"""One play of a schedule, and the look around when everything has come to rest."""

from __future__ import annotations

from typing import Any

from coord.core.records import Kind
from simulation.acks import Acks
from simulation.aging import Aging
from simulation.evidence import Evidence
from simulation.faults import Faults
from simulation.holders import Holders
from simulation.locks import Locks
from simulation.setup import Setup
from simulation.sharded import ShardedWorld
from simulation.sharded_faults import ShardedFaults
from simulation.single import SingleWorld
from simulation.single_faults import SingleFaults
from simulation.steps import ACKED, ARITY, COUNTED, HELD, LOCKED, PAUSES, TIMED, UNMENDED, USE, Step
from simulation.users import Users
from simulation.world import World

__all__ = ["Run"]

_OF_USERS = USE | TIMED | COUNTED | HELD


class Run:
    """One play of a schedule."""

    def __init__(self, setup: Setup) -> None:
        self.world, self.faults = self._make(setup)
        self.users = Users(self.world)
        self.aging = Aging(self.world, self.users)
        self.holders = Holders(self.world, self.users)
        self.locks = Locks(self.world)
        self.acks = Acks(self.world, self.users)
        self.verbs: dict[str, Any] = dict.fromkeys(_OF_USERS, self.users)
        self.verbs |= dict.fromkeys(LOCKED, self.locks) | dict.fromkeys(ACKED, self.acks)

    @staticmethod
    def _make(setup: Setup) -> tuple[World, Faults]:
        if setup.sharded:
            sharded = ShardedWorld(setup)
            return sharded, ShardedFaults(sharded)
        single = SingleWorld(setup)
        return single, SingleFaults(single)

    def take(self, step: Step) -> None:
        """Take one step."""
        name, *numbers = step
        if name == "run":
            for _ in range(numbers[0]):
                self.world.clock.next(self.world.clock.seconds() + 1.0)
        elif name == "pass":
            self.world.clock.advance(PAUSES[numbers[0] % len(PAUSES)] / 1000)
        else:
            getattr(self.verbs.get(name, self.faults), name)(*numbers[: ARITY[name]])
        self._check_caches()
        self.world.look()

    def _check_caches(self) -> None:
        for node in self.world.nodes:
            if any(len(session.table.cache) > self.world.setup.cache for session in node.sessions):
                self.world.history.wrong.append(("W5", f"{node.life.name}: the live cache is over its bound"))

    def end(self) -> list[Evidence]:
        """Mend everything, come to rest, wake whoever still waits, reset all, close all; look around in between."""
        world = self.world
        self.faults.heal()
        self._come_to_rest()
        self._let_time_pass()
        evidence = world.evidence()
        self._check_rest()
        if self.faults.finish():
            self._come_to_rest()
            self._check_rest()
        if "aging" not in UNMENDED:
            self.aging.look()
        if world.setup.held:
            self.holders.look()
            self.holders.free_all()
        if world.setup.locks:
            self.locks.look()
            self.locks.release_all()
        self._wake_and_reset(evidence)
        self._check_empty()
        ages = world.setup.seed % 4 == 0 and "aging" not in UNMENDED
        if ages:
            self.aging.begin()
        if world.setup.held:
            self.holders.hold_again()
        for node in world.nodes:
            self.users.shut(node)
        world.clock.advance(0.1 + 4 * world.setup.slowest)
        self._check_closed()
        if world.setup.held:
            self.holders.end()
        if ages:
            self.aging.end()
        return evidence

    def _come_to_rest(self) -> None:
        world = self.world
        world.rest()
        # The next beat finds out what nobody was told of; where it leaves a replica for it, another one has to.
        for _ in range(2):
            world.clock.advance(world.setup.heartbeat + 4 * world.setup.slowest + 0.3)
            world.rest()

    def _let_time_pass(self) -> None:
        world = self.world
        if world.setup.timed:
            # A claim of a node that went away is over.
            world.clock.advance(10.0)
            world.rest()
        if world.setup.held or (world.setup.acks and self.acks.somebody_died()):
            self.holders.let_leases_end()

    def _wake_and_reset(self, evidence: list[Evidence]) -> None:
        world, rest = self.world, evidence[0].rest
        self.users.resting = True
        for kind in (Kind.FIRED, Kind.RESET):
            for number in range(world.setup.maps * world.setup.keys):
                # One node for all keys of a map: that is one batch.
                self.users.make_call(
                    world.nodes[number % world.setup.maps % len(world.nodes)], world.where(number), kind
                )
            world.rest()
        if world.setup.counters:
            self.users.reset_counters()
            world.rest()
        if world.setup.acks:
            self.acks.give_up_half()
        for node in world.nodes:
            for wait in [*node.pending, *node.ending, *node.reaching]:
                if wait.made > rest or wait.where[1][0] == "c" or any(each.found_over(wait) for each in evidence):
                    wait.cancelled = world.history.now()
                    wait.deferred.cancel()
        world.rest()

    def _wrong(self, promise: str, words: str) -> None:
        self.world.history.wrong.append((promise, words))

    def _check_rest(self) -> None:
        """At rest, a node holds what somebody needs, and the server knows of nothing else."""
        world = self.world
        needed: dict[str, int] = {}
        for node in world.nodes:
            waited = {wait.where for wait in (*node.pending, *node.ending, *node.reaching)}
            waited |= {request.where for request in node.locking if request.lock is None}
            for where, entry in node.entries():
                stands = world.books(where[0]).stands(where)
                if (
                    entry.cached
                    and entry.stored is not None
                    and (stands is None or stands.revision != entry.stored.revision)
                ):
                    self._wrong("W8", f"{node.life.name}: {where} is cached as {entry.stored.revision}")
                if not entry.cached and where not in waited:
                    self._wrong("W5", f"{node.life.name}: an entry for {where}, and nobody needs it")
            for channel in node.channels:
                needed[channel] = needed.get(channel, 0) + 1
        known = world.subscribed()
        over = {channel: known.get(channel, 0) - needed.get(channel, 0) for channel in known | needed}
        if not all(0 <= more <= world.left_behind(channel) for channel, more in over.items()):
            self._wrong("W5", f"subscribed to {known}, where {needed} is needed")

    def _check_empty(self) -> None:
        """With nothing latched and nobody waiting, nothing is left but the doorbells of watches."""
        for node in self.world.nodes:
            left = [where for where, _ in node.entries()]
            if left:
                self._wrong("W5", f"{node.life.name}: entries left for {left}")
        self._check_rest()

    def _check_closed(self) -> None:
        for node in self.world.nodes:
            if node.clock.timers:
                self._wrong("W6", f"{node.life.name}: {node.clock.timers} timers left after close()")
            if node.network.connections:
                self._wrong("W6", f"{node.life.name}: {node.network.connections} left after close()")
