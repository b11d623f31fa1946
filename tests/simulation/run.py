"""One play of a schedule, and the look around when everything has come to rest."""

from __future__ import annotations

from typing import Any

from coord.core.records import Kind
from simulation.aging import Aging
from simulation.evidence import Evidence
from simulation.faults import Faults
from simulation.holders import Holders
from simulation.locks import Locks
from simulation.steps import ARITY, COUNTED, HELD, LOCKED, PAUSES, TIMED, UNMENDED, USE, Step
from simulation.users import Users
from simulation.world import Setup, World

__all__ = ["Run"]

_OF_USERS = USE | TIMED | COUNTED | HELD


class Run:
    """One play of a schedule."""

    def __init__(self, setup: Setup) -> None:
        self.world = World(setup)
        self.users = Users(self.world)
        self.faults = Faults(self.world)
        self.aging = Aging(self.world, self.users)
        self.holders = Holders(self.world, self.users)
        self.locks = Locks(self.world)

    def take(self, step: Step) -> None:
        """Take one step."""
        name, *numbers = step
        if name == "run":
            for _ in range(numbers[0]):
                self.world.clock.next(self.world.clock.seconds() + 1.0)
        elif name == "pass":
            self.world.clock.advance(PAUSES[numbers[0] % len(PAUSES)] / 1000)
        else:
            verbs: Any = self.users if name in _OF_USERS else self.locks if name in LOCKED else self.faults
            getattr(verbs, name)(*numbers[: ARITY[name]])
        self._check_caches()
        self.world.look()

    def _check_caches(self) -> None:
        for node in self.world.nodes:
            if len(node.session.table.cache) > self.world.setup.cache:
                self.world.history.wrong.append(("W5", f"{node.life.name}: the live cache is over its bound"))

    def end(self) -> Evidence:
        """Mend everything, come to rest, wake whoever still waits, reset all, close all; look around in between."""
        world = self.world
        self.faults.heal()
        world.rest()
        # The next beat finds out what nobody was told of; where it leaves a replica for it, another one has to.
        for _ in range(2):
            world.clock.advance(world.setup.heartbeat + 4 * world.setup.slowest + 0.3)
            world.rest()
        self._let_time_pass()
        primary = world.primary
        evidence = Evidence(
            world.history,
            world.setup,
            world.servers,
            world.history.now(),
            {name: list(lines) for name, lines in primary.lineage.items()},
        )
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
        lineages = [lines for server in world.servers for ended in server.ended for lines in ended.values()]
        evidence.lineages = [*lineages, *primary.lineage.values()]
        return evidence

    def _let_time_pass(self) -> None:
        world = self.world
        if world.setup.timed:
            # A claim of a node that went away is over.
            world.clock.advance(10.0)
            world.rest()
        if world.setup.held:
            self.holders.let_leases_end()

    def _wake_and_reset(self, evidence: Evidence) -> None:
        world = self.world
        self.users.resting = True
        for kind in (Kind.FIRED, Kind.RESET):
            for number in range(world.setup.maps * world.setup.keys):
                # One node for all keys of a map: that is one batch.
                self.users.make_call(world.nodes[number % world.setup.maps], world.where(number), kind)
            world.rest()
        if world.setup.counters:
            self.users.reset_counters()
            world.rest()
        for node in world.nodes:
            for wait in [*node.pending, *node.ending, *node.reaching]:
                if wait.made > evidence.rest or wait.where[1][0] == "c":
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
            for where, entry in world.entries(node):
                stands = world.primary.stands(where)
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
        if world.primary.channels != needed:
            self._wrong("W5", f"subscribed to {world.primary.channels}, where {needed} is needed")

    def _check_empty(self) -> None:
        """With nothing latched and nobody waiting, nothing is left but the doorbells of watches."""
        for node in self.world.nodes:
            left = [where for where, _ in self.world.entries(node)]
            if left:
                self._wrong("W5", f"{node.life.name}: entries left for {left}")
        self._check_rest()

    def _check_closed(self) -> None:
        for node in self.world.nodes:
            if node.clock.timers:
                self._wrong("W6", f"{node.life.name}: {node.clock.timers} timers left after close()")
            if node.network.connections:
                self._wrong("W6", f"{node.life.name}: {node.network.connections} left after close()")
