"""Random interleavings of waits, calls, messages, cuts and losses, held to the promises by `core.cluster_model`.

Twice: by chance alone, which is so cheap that ten thousand schedules are a matter of seconds; and by hypothesis,
which is slower, looks around more cleverly, and shortens what it finds. Both are the same every time. With
``COORD_INTERLEAVINGS=50`` in the environment both go fifty times further, over ground that is new.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from coord.core.keys import KeyTable
from core.cluster_model import Cluster
from core.explore import explore

FURTHER = int(os.environ.get("COORD_INTERLEAVINGS", "1"))
SCHEDULES = 4_000

KEYS = st.integers(0, 2)
KINDS = st.integers(0, 3)
INDEX = st.integers(0, 7)


class Interleavings(RuleBasedStateMachine):
    """One node's life, a step a rule; every broken promise is an `AssertionError` of the model."""

    table: type[KeyTable] = KeyTable

    @initialize(cache_size=st.integers(0, 3), split=st.booleans(), keys=st.integers(1, 3))
    def begin(self, cache_size: int, split: bool, keys: int) -> None:
        """Start with an empty server and a link."""
        self.keys = keys
        self.cluster = Cluster(self.table(cache_size), split=split)
        self.cluster.connect()

    @rule(key=KEYS, again=st.booleans())
    def wait(self, key: int, again: bool) -> None:
        """Somebody waits."""
        self.cluster.wait(key % self.keys, again=again)

    @rule(index=INDEX)
    def cancel(self, index: int) -> None:
        """Somebody waits no longer."""
        self.cluster.cancel(index)

    @rule(kind=KINDS, key=KEYS, own=st.booleans())
    def call(self, kind: int, key: int, own: bool) -> None:
        """Somebody makes a call, on our node or on another one."""
        (self.cluster.own if own else self.cluster.other)(kind, key % self.keys)

    @rule(which=st.integers(0, 1))
    def watch(self, which: int) -> None:
        """A watcher comes or goes."""
        self.cluster.watch(which)

    @rule(most=st.sampled_from([500, 500, 1]))
    def send(self, most: int) -> None:
        """The node's turn ends."""
        self.cluster.send(most)

    @rule()
    def serve_subscriber(self) -> None:
        """The server carries out one request of the subscriber connection."""
        self.cluster.serve_subscriber()

    @rule()
    def serve_command(self) -> None:
        """The server carries out one request of the command connection."""
        self.cluster.serve_command()
        self.cluster.serve_calls()

    @rule(times=st.integers(1, 3))
    def hear(self, times: int) -> None:
        """Something arrives on the subscriber connection."""
        for _ in range(times):
            self.cluster.hear()

    @rule(calls=st.booleans())
    def answer(self, calls: bool) -> None:
        """Something arrives on the command connection."""
        (self.cluster.answer_calls if calls and self.cluster.split else self.cluster.answer)()

    @rule(index=INDEX, later=INDEX)
    def double(self, index: int, later: int) -> None:
        """A message comes twice."""
        self.cluster.double(index, later)

    @rule(lost=st.none() | st.integers(0, 3), back=st.booleans())
    def cut(self, lost: int | None, back: bool) -> None:
        """The link is lost, perhaps with the server's process and its last writes; perhaps it is back at once."""
        if lost is None:
            self.cluster.cut()
        else:
            self.cluster.fail_over(lost)
        if back:
            self.cluster.connect()

    @rule()
    def connect(self) -> None:
        """A lost link is back."""
        self.cluster.connect()

    @rule(what=st.sampled_from(["flush", "junk", "corrupt", "forget"]), which=KEYS)
    def disturb(self, what: str, which: int) -> None:
        """Somebody does in the server what coord never would."""
        getattr(self.cluster, what)(which)

    @rule(refusal=st.sampled_from(["", "", "", "refused", "withdrawn"]))
    def beat(self, refusal: str) -> None:
        """A heartbeat is sent; or the server refuses a subscription."""
        if refusal:
            self.cluster.serve_subscriber(refusal)
        else:
            self.cluster.beat()

    @rule(which=INDEX, over=st.booleans())
    def busy(self, which: int, over: bool) -> None:
        """The server puts something off; or all of that is asked for again."""
        if over:
            self.cluster.resume()
        else:
            self.cluster.busy(which)

    @rule(way=st.sampled_from(["rest", "rest_subscriber", "rest_command"]))
    def rest(self, way: str) -> None:
        """Both connections, or one of them while the other one stalls, deliver all they have."""
        getattr(self.cluster, way)()

    @rule()
    def settle(self) -> None:
        """Everything is delivered, and the promises are due."""
        self.cluster.settle()

    def teardown(self) -> None:
        """At the end all promises are due, and nothing may stay behind."""
        if hasattr(self, "cluster"):
            self.cluster.finish()


def profile(examples: int, *, shorten: bool = True) -> settings:
    """Return settings that are the same everywhere: no clock, no database, and no dice unless told to go further."""
    phases = [Phase.generate, Phase.shrink] if shorten else [Phase.generate]
    return settings(
        max_examples=examples * FURTHER,
        stateful_step_count=60,
        deadline=None,
        database=None,
        derandomize=FURTHER == 1,
        phases=phases,
        suppress_health_check=list(HealthCheck),
    )


@pytest.mark.parametrize("cache_size", [0, 1, 2, 3])
def test_chance_breaks_no_promise(cache_size: int) -> None:
    """Thousands of schedules, each known by its seed, end with every promise kept."""
    seeds = range(cache_size * 10_000_000, cache_size * 10_000_000 + SCHEDULES * FURTHER)
    woken = explore(seeds, lambda seed: Cluster(cache_size=cache_size, split=seed % 2 == 1))
    # Else the schedules would have turned so idle that keeping promises is no feat.
    assert woken > 3 * len(seeds)


def test_hypothesis_breaks_no_promise() -> None:
    """The same steps as a state machine, whose counterexamples come shortened."""
    run_state_machine_as_test(Interleavings, settings=profile(500))
