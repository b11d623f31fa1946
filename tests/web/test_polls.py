"""W1 and W2 over HTTP: polls that are cut, lost and made at another gateway miss nothing and see nothing twice."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from coord.testing import Cluster
from web.client import Connection, Web

KEYS = ("a", "b")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run as many schedules as were asked for."""
    if "seed" in metafunc.fixturenames:
        metafunc.parametrize("seed", range(metafunc.config.getoption("--poll-schedules")))


class Client:
    """Polls for the first of some keys, again and again, at one gateway or the other."""

    def __init__(self, gateways: list[Web], random: Random) -> None:
        self._gateways = gateways
        self._random = random
        self._poll: Connection | None = None
        self.seen: list[Any] = []
        # As the documentation says: look once, to know from where on to wait.
        told = gateways[0].get(f"/v1/maps/m/wait?{_keys()}&wait=0")
        assert told.status == 408
        self.since = told.json["revision"]

    def poll(self) -> None:
        """Begin to wait, unless it does."""
        if self._poll is None:
            web = self._random.choice(self._gateways)
            self._poll = web.begin("GET", f"/v1/maps/m/wait?{_keys()}&for=any&wait=2&since={self.since}")

    def cut(self) -> None:
        """Lose the connection; whatever was answered on it is lost too."""
        if self._poll is not None:
            self._poll.hang_up()
        self._poll = None

    def take(self) -> None:
        """Read the answer, if there is one."""
        told = None if self._poll is None else self._poll.take()
        if told is None:
            return
        assert told.status in (200, 408, 503), told
        self.cut()
        self.since = told.json.get("revision", self.since)
        if told.status == 200:
            self.seen += [event["value"] for event in told.json["events"]]


def _keys() -> str:
    return "&".join(f"key={key}" for key in KEYS)


class World:
    """Two gateways, a node that wakes, a client, and what goes wrong between them."""

    def __init__(self, memory: Cluster, make_web: Callable[..., Web], seed: int, *, patient: bool) -> None:
        self.random = Random(seed)
        self.memory = memory
        self.patient = patient
        self.events = memory.node("waker").events("m")
        self.client = Client([make_web(), make_web(name="web2")], self.random)
        self.made = 0

    def wake(self) -> None:
        """Wake whoever waits, with the next number; a patient waker does so once the client has seen the last."""
        if self.patient and self.client.seen[-1:] != [self.made or None] and self.made:
            return
        self.made += 1
        key = self.random.choice(KEYS)
        if self.random.random() < 0.5:
            self.memory.result(self.events.pulse(key, self.made))
        else:
            self.memory.result(self.events.fire(key, self.made))
            if self.random.random() < 0.5:
                self.memory.advance(0.3)
            self.memory.result(self.events.reset(key))

    def cut_link(self) -> None:
        """A gateway loses Redis."""
        self.memory.networks[self.random.choice(["web1", "web2"])].cut()

    def stall(self) -> None:
        """A gateway hears nothing from Redis for a while."""
        network = self.memory.networks[self.random.choice(["web1", "web2"])]
        network.stall()
        self.memory.advance(self.random.choice([0.1, 3.0]))
        network.unstall()

    def restart(self) -> None:
        """Redis is stopped and started, with its data."""
        self.memory.server.stop()
        self.memory.advance(self.random.choice([0.1, 3.0]))
        self.memory.server.start()
        self.memory.advance(1)

    def pass_time(self) -> None:
        """Time passes."""
        self.memory.advance(self.random.choice([0.0, 0.01, 0.5, 2.5]))

    def run(self, steps: int) -> None:
        """Take some steps, and then let the client catch up."""
        client = self.client
        moves = [self.wake, self.wake, client.poll, client.poll, client.take, client.take, client.cut, self.pass_time]
        rare = [self.cut_link, self.stall, self.restart]
        for _ in range(steps):
            self.random.choice(rare if self.random.random() < 0.05 else moves)()
            self.memory.settle()
        for _ in range(100):
            if self.client.seen[-1:] == [self.made]:
                break
            self.client.poll()
            self.memory.advance(0.5)
            self.client.take()
        self.client.cut()


def test_each_wake_is_seen_once(memory: Cluster, make_web: Callable[..., Web], seed: int) -> None:
    """If the waker waits until it is, whatever is cut meanwhile."""
    world = World(memory, make_web, seed, patient=True)
    world.run(150)
    assert world.client.seen == list(range(1, world.made + 1))
    assert world.made >= 3


def test_the_latest_wake_is_seen(memory: Cluster, make_web: Callable[..., Web], seed: int) -> None:
    """If there are more than the client can follow; none twice, and of one key none before another."""
    world = World(memory, make_web, seed, patient=False)
    world.run(150)
    assert world.client.seen[-1] == world.made
    assert world.client.seen == sorted(set(world.client.seen))


def test_a_late_poll_is_answered(memory: Cluster, make_web: Callable[..., Web]) -> None:
    """W1: a latched key answers each poll, whatever revision it goes on from."""
    web = make_web()
    revision = web.post("/v1/maps/m/fire?key=a", 7).json["record"]["revision"]
    for since in ("", "&since=0.0", f"&since={revision}", "&since=9999999999999999.1"):
        told = web.get(f"/v1/maps/m/wait?key=a{since}")
        assert [event["value"] for event in told.json["events"]] == [7]
