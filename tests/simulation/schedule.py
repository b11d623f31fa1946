"""Schedules: made from a seed, played, and shortened as long as they still break a promise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from coord.core.records import Kind
from simulation.checkers import Evidence, check
from simulation.clock import Runaway
from simulation.faults import Faults
from simulation.history import History
from simulation.users import Users
from simulation.world import Setup, World, deterministic

__all__ = ["Outcome", "Step", "describe", "generate", "play", "setup_of", "shorten"]

Step = tuple[str, int, int, int]

# How many of its three numbers each verb takes, and how often it comes.
_USE = {
    "wait": (3, 26),
    "cancel": (2, 3),
    "fire": (3, 9),
    "fail": (3, 3),
    "pulse": (3, 9),
    "reset": (3, 9),
    "take_back": (3, 3),
    "forget": (2, 1),
    "look": (2, 2),
    "listing": (2, 2),
    "watch": (3, 4),
    "pull": (1, 3),
    "unwatch": (2, 1),
    "close": (1, 1),
}
_BREAK = {
    "cut": (1, 4),
    "cut_one": (2, 4),
    "stall": (2, 2),
    "stall_one": (3, 3),
    "unstall": (1, 4),
    "crash": (1, 1),
    "freeze": (1, 1),
    "thaw": (1, 2),
    "stop": (1, 1),
    "start": (1, 3),
    "restart": (1, 2),
    "hang": (1, 2),
    "resume": (1, 4),
    "drop": (2, 2),
    "flush": (0, 1),
    "scripts": (0, 1),
    "trim": (1, 1),
    "step": (2, 2),
    "replicas": (1, 2),
    "memory": (1, 1),
    "load": (1, 1),
    "save": (0, 3),
    "fail_over": (1, 2),
    "split": (3, 3),
    "move": (1, 2),
    "demote": (0, 4),
    "retire": (0, 2),
}
_PASS = {"run": (1, 30), "pass": (1, 14)}
_VERBS = _USE | _BREAK | _PASS
_NAMES = list(_VERBS)
_WEIGHTS = [weight for _, weight in _VERBS.values()]
_ARITY = {name: arity for name, (arity, _) in _VERBS.items()}
# Milliseconds.
_PAUSES = (1, 2, 5, 10, 20, 50, 100, 300, 1_000, 1_500, 3_000, 6_000, 12_000)
_MAX_STEPS = 45


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one run: the broken promises, and how much happened."""

    broken: list[tuple[str, str]]
    waits: int
    calls: int
    changes: int
    faults: list[str]
    steps: int


def setup_of(seed: int) -> Setup:
    """Return the world that a seed stands for."""
    chance = Random(seed)
    latency = chance.choice((0, 1, 1, 2, 2, 3))
    return Setup(
        seed,
        nodes=chance.choice((2, 2, 2, 3)),
        maps=chance.choice((1, 1, 1, 2)),
        keys=chance.choice((1, 2, 2)),
        latency=latency,
        # A handshake has to fit into two beats, and takes a dozen round trips.
        heartbeat=5.0 if latency == 3 else chance.choice((1.0, 2.0, 5.0)),
        cache=chance.choice((1, 1, 2, 100)),
    )


def generate(seed: int) -> list[Step]:
    """Return the steps that a seed stands for."""
    chance = Random(seed + 0.5)
    steps: list[Step] = []
    length = chance.randrange(12, _MAX_STEPS)
    while len(steps) < length:
        if chance.random() < 0.12:
            steps += chance.choice(_MOTIFS)(chance)
        else:
            steps.append(_step(chance.choices(_NAMES, _WEIGHTS)[0], chance))
    return steps


def _step(name: str, chance: Random, *fixed: int) -> Step:
    numbers = [*fixed, *(chance.randrange(60) for _ in range(_ARITY[name] - len(fixed))), 0, 0, 0]
    return name, numbers[0], numbers[1], numbers[2]


# Short stories that chance alone would seldom tell.


def _call_and_cut(chance: Random) -> list[Step]:
    """A call, cut while it is under way; others go on meanwhile."""
    node, key = chance.randrange(3), chance.randrange(4)
    verbs = ("fire", "pulse", "reset", "fail")
    return [
        _step(chance.choice(verbs), chance, node, key),
        _step("run", chance, chance.randrange(1, 9)),
        _step(chance.choice(("cut", "cut_one", "restart", "drop")), chance, node),
        _step(chance.choice(verbs), chance, node + 1, key),
        _step("run", chance),
        _step(chance.choice(verbs), chance, node + 1, key),
    ]


def _away(chance: Random) -> list[Step]:
    """A waiter whose node is away while its key is woken, and perhaps reset."""
    node, key = chance.randrange(3), chance.randrange(4)
    return [
        _step("wait", chance, node, key),
        _step("pass", chance, chance.randrange(5, 9)),
        _step(chance.choice(("cut", "cut", "cut_one", "stall", "stall_one")), chance, node),
        _step(chance.choice(("fire", "fire", "pulse")), chance, node + 1, key),
        _step("run", chance, chance.randrange(2, 12)),
        _step("reset", chance, node + 1, key, 1),
        _step("pass", chance),
        _step("unstall", chance, node),
    ]


def _switch(chance: Random) -> list[Step]:
    """A node connects again while another server takes over."""
    node = chance.randrange(3)
    return [
        _step("wait", chance, node),
        _step("cut", chance, node),
        _step("run", chance, chance.randrange(10, 40)),
        _step("split", chance, 0, chance.choice((0, 0, 1, 2, 5, 7))),
        _step("run", chance),
        _step(chance.choice(("fire", "pulse")), chance),
        _step("pass", chance),
        _step(chance.choice(("wait", "retire", "move")), chance),
    ]


def _back_and_forth(chance: Random) -> list[Step]:
    """Wait, cancel, wait again, with little in between."""
    node, key = chance.randrange(3), chance.randrange(4)
    steps = [_step("wait", chance, node, key), _step("pass", chance, chance.randrange(9))]
    for name in ("cancel", "wait", "cancel", "wait"):
        steps += [_step("run", chance, chance.randrange(6)), _step(name, chance, node, key)]
    return [*steps, _step("run", chance, chance.randrange(12)), _step("pulse", chance, node + 1, key)]


def _slow_to_join(chance: Random) -> list[Step]:
    """Wait, cancel, wait again; the first confirmation comes late, and the last request goes slowly."""
    node, key = chance.randrange(3), chance.randrange(4)
    return [
        _step("wait", chance, node, key, 0),
        _step("run", chance, chance.randrange(1, 4)),
        _step("stall_one", chance, node, 1, 2),
        _step("cancel", chance, node, 0),
        _step("run", chance, chance.randrange(2, 6)),
        _step("wait", chance, node, key, 0),
        _step("run", chance, 1),
        _step("unstall", chance, node),
        _step("stall_one", chance, node, 1, 1),
        _step("run", chance, chance.randrange(4, 10)),
        _step("pulse", chance, node + 1, key, 1),
        _step("run", chance, chance.randrange(4, 20)),
        _step("unstall", chance, node),
    ]


def _latch(chance: Random) -> list[Step]:
    """Fired, seen, reset, and asked for again at once."""
    node, key = chance.randrange(3), chance.randrange(4)
    return [
        _step("wait", chance, node, key),
        _step("fire", chance, node + chance.randrange(2), key),
        _step("pass", chance),
        _step("reset", chance, node, key, 0),
        _step("run", chance),
        _step("wait", chance, node, key),
    ]


def _lost_writes(chance: Random) -> list[Step]:
    """Changes that a failover loses, and others in their place."""
    key = chance.randrange(4)
    return [
        _step("fire", chance, chance.randrange(3), key),
        _step("pass", chance),
        _step("save", chance),
        _step("watch", chance),
        _step(chance.choice(("reset", "pulse")), chance, chance.randrange(3), key),
        _step("pulse", chance),
        _step("pass", chance),
        _step("fail_over", chance, 0),
        _step(chance.choice(("step", "run")), chance),
        _step("fire", chance),
    ]


def _late_copy(chance: Random) -> list[Step]:
    """A call that is given up under way, and arrives after the node's next one."""
    node, key = chance.randrange(3), chance.randrange(4)
    calls = ("fire", "pulse", "fail")
    return [
        _step("pass", chance, 8),
        _step("stall_one", chance, node, 0, 1),
        _step(chance.choice(calls), chance, node, key, 16),
        _step("pass", chance, chance.randrange(10, 13)),
        _step(chance.choice((*calls, "reset")), chance, node, key, 1),
        _step("pass", chance, chance.randrange(5, 8)),
        _step("unstall", chance, node),
    ]


def _look_late(chance: Random) -> list[Step]:
    """A node's question just after another node's change."""
    node, key = chance.randrange(3), chance.randrange(4)
    return [
        _step("wait", chance, node, key),
        _step("fire", chance, node + 1, key),
        _step("pass", chance, 7),
        _step("reset", chance, node + 1, key),
        _step("run", chance, chance.randrange(2, 8)),
        _step("look", chance, node, key),
    ]


_MOTIFS: tuple[Callable[[Random], list[Step]], ...] = (
    _call_and_cut,
    _call_and_cut,
    _away,
    _away,
    _switch,
    _back_and_forth,
    _slow_to_join,
    _latch,
    _late_copy,
    _look_late,
    _lost_writes,
)


class Run:
    """One play of a schedule."""

    def __init__(self, setup: Setup) -> None:
        self.world = World(setup)
        self.users = Users(self.world)
        self.faults = Faults(self.world)

    def take(self, step: Step) -> None:
        """Take one step."""
        name, *numbers = step
        if name == "run":
            for _ in range(numbers[0]):
                self.world.clock.next(self.world.clock.seconds() + 1.0)
        elif name == "pass":
            self.world.clock.advance(_PAUSES[numbers[0] % len(_PAUSES)] / 1000)
        else:
            verbs = self.users if name in _USE else self.faults
            getattr(verbs, name)(*numbers[: _ARITY[name]])
        self._check_caches()

    def _check_caches(self) -> None:
        for node in self.world.nodes:
            if len(node.session.table.cache) > self.world.setup.cache:
                self.world.history.wrong.append(("W5", f"{node.life.name}: the live cache is over its bound"))

    def end(self) -> Evidence:
        """Mend everything, come to rest, wake whoever still waits, reset all, close all; look around in between."""
        world = self.world
        self.faults.heal()
        world.rest()
        # The next beat finds out what nobody was told of.
        world.clock.advance(world.setup.heartbeat + 4 * world.setup.slowest + 0.1)
        world.rest()
        primary = world.primary
        evidence = Evidence(
            world.history,
            world.setup,
            world.servers,
            world.history.now(),
            {name: list(lines) for name, lines in primary.lineage.items()},
        )
        self._check_rest()
        for kind in (Kind.FIRED, Kind.RESET):
            for number in range(world.setup.maps * world.setup.keys):
                # One node for all keys of a map: that is one batch.
                self.users.make_call(world.nodes[number % world.setup.maps], world.where(number), kind)
            world.rest()
        for node in world.nodes:
            for wait in list(node.pending):
                if wait.made > evidence.rest:
                    wait.deferred.cancel()
        world.rest()
        self._check_empty()
        for node in world.nodes:
            self.users.shut(node)
        world.clock.advance(0.1 + 4 * world.setup.slowest)
        self._check_closed()
        lineages = [lines for server in world.servers for ended in server.ended for lines in ended.values()]
        evidence.lineages = [*lineages, *primary.lineage.values()]
        return evidence

    def _wrong(self, promise: str, words: str) -> None:
        self.world.history.wrong.append((promise, words))

    def _check_rest(self) -> None:
        """At rest, a node holds what somebody needs, and the server knows of nothing else."""
        world = self.world
        needed: dict[str, int] = {}
        for node in world.nodes:
            waited = {wait.where for wait in node.pending}
            for where, entry in world.entries(node):
                stands = world.primary.stands(where)
                if (
                    entry.kept
                    and entry.stored is not None
                    and (stands is None or stands.revision != entry.stored.revision)
                ):
                    self._wrong("W8", f"{node.life.name}: {where} is cached as {entry.stored.revision}")
                if not entry.kept and where not in waited:
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


def play(setup: Setup, steps: list[Step]) -> Outcome:
    """Run a schedule from the beginning to the end."""
    history: History | None = None
    with deterministic(setup.seed, lambda: history):
        run = Run(setup)
        history = run.world.history
        try:
            for step in steps:
                run.take(step)
            broken = check(run.end())
        except Runaway as error:
            broken = [("link", str(error))]
    faults = [fault.verb for fault in history.faults]
    return Outcome(broken, len(history.waits), len(history.calls), len(history.changes), faults, len(steps))


def shorten(setup: Setup, steps: list[Step], promise: str) -> list[Step]:
    """Leave out steps, in ever smaller runs, as long as the same promise is still broken."""

    def breaks(fewer: list[Step]) -> bool:
        return any(name == promise for name, _ in play(setup, fewer).broken)

    size = len(steps) // 2
    while size:
        at = 0
        while at < len(steps):
            fewer = steps[:at] + steps[at + size :]
            if breaks(fewer):
                steps = fewer
            else:
                at += size
        size //= 2
    return steps


def describe(setup: Setup, steps: list[Step]) -> str:
    """Return what somebody needs to see of a schedule that breaks a promise, and to play it again."""
    broken = play(setup, steps).broken
    lines = [f"{name}: {words}" for name, words in broken]
    return "\n".join([*lines, f"play({setup!r}, [", *(f"    {step!r}," for step in steps), "])"])
