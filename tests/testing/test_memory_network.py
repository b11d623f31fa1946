"""The network in memory: connecting, and everything that can happen to a connection."""

from __future__ import annotations

import random
from typing import Any

import pytest
from twisted.application.internet import ClientService
from twisted.internet.error import (
    ConnectingCancelledError,
    ConnectionAborted,
    ConnectionDone,
    ConnectionLost,
    NoProtocol,
)
from twisted.internet.protocol import Factory, Protocol

from coord.testing import Delivery, MemoryEndpoint
from memory import MemoryServer
from testing.memory_client import RawClient, World


def test_connecting_takes_a_turn() -> None:
    """Nothing is connected in the turn that asks for it."""
    world = World()
    outcome = world.attempt()
    assert outcome == []
    world.settle()
    assert isinstance(outcome[0], RawClient)
    assert len(world.network.connections) == len(world.server.connections) == 1


@pytest.mark.parametrize(("seconds", "accepted"), [(0.5, 0), (1.5, 1)])
def test_a_cancelled_connection_leaves_nothing(seconds: float, accepted: int) -> None:
    """Cancelling ends with ConnectingCancelledError, whether or not the server has it already."""
    world = World(lambda delivery: 1.0)
    connecting = world.network.connect(Factory.forProtocol(RawClient))
    failures: list[object] = []
    connecting.addErrback(lambda failure: failures.append(failure.type))
    world.clock.advance(seconds)
    assert len(world.server.connections) == accepted
    connecting.cancel()
    assert failures == [ConnectingCancelledError]
    world.clock.pump([1.0] * 3)
    world.assert_nothing_is_left()


def test_a_factory_without_a_protocol() -> None:
    """A client factory that makes no protocol fails the attempt, as with Twisted's own endpoints."""
    world = World()
    factory = Factory()
    factory.buildProtocol = lambda addr: None  # type: ignore[method-assign]
    failures: list[object] = []
    world.network.connect(factory).addErrback(lambda failure: failures.append(failure.type))
    world.settle()
    assert failures == [NoProtocol]
    world.assert_nothing_is_left()


def test_a_delivery_is_as_slow_as_the_test_says_and_never_overtakes() -> None:
    """The hook decides every delay; a quick piece waits for the slow one before it."""
    seen: list[tuple[str, str]] = []

    def deliver(delivery: Delivery) -> float:
        seen.append((delivery.direction, delivery.kind))
        return 2.0 if b"slow" in delivery.data else 0.0

    world = World(deliver)
    client = world.client()
    client.send("ECHO", "slow")
    client.send("ECHO", "quick")
    world.clock.advance(1.9)
    assert client.replies == []
    world.clock.advance(0.1)
    world.clock.advance(1.9)
    assert client.replies == []
    world.clock.advance(0.1)
    assert client.replies == [b"slow", b"quick"]
    client.transport.loseConnection()
    world.settle()
    assert seen == [
        ("to server", "connect"),
        ("to client", "connect"),
        ("to server", "data"),
        ("to server", "data"),
        ("to client", "data"),
        ("to server", "end"),
    ]
    world.assert_nothing_is_left()


def test_a_cut_loses_what_is_under_way_and_both_ends_know() -> None:
    """After a cut both protocols have lost their connection, and a command on its way is gone."""
    world = World()
    client = world.client()
    client.send("SET", "a", 1)
    world.network.cut()
    world.settle()
    assert client.lost is ConnectionLost
    world.assert_nothing_is_left()
    assert world.ask(world.client(), "GET", "a") is None


def test_one_connection_is_cut_alone() -> None:
    """The other connections of the endpoint stay."""
    world = World()
    first, second = world.client(), world.client()
    world.network.connections[0].cut()
    world.settle()
    assert first.lost is ConnectionLost
    assert world.ask(second, "PING") == b"PONG"


def test_a_stalled_connection_is_silent() -> None:
    """Nothing passes either way and nobody is told; afterwards everything arrives, in order."""
    world = World()
    client, other = world.client(), world.client()
    world.network.connections[0].stall()
    client.send("INCR", "a")
    client.send("INCR", "a")
    world.clock.advance(3600)
    assert (client.replies, client.lost) == ([], None)
    assert world.ask(other, "GET", "a") is None
    world.network.connections[0].unstall()
    world.settle()
    assert client.replies == [1, 2]


def test_a_one_way_stall_applies_commands_and_keeps_their_replies() -> None:
    """Towards the client nothing passes: the command is applied, its reply comes when the way is free."""
    world = World()
    client, other = world.client(), world.client()
    world.network.connections[0].stall("to client")
    client.send("INCR", "a")
    world.clock.advance(60)
    assert client.replies == []
    assert world.ask(other, "GET", "a") == b"1"
    world.network.connections[0].unstall()
    world.settle()
    assert client.replies == [1]


def test_an_end_does_not_pass_a_stall_either() -> None:
    """A client that gives up a stalled connection is gone at once for itself, much later for the server."""
    world = World()
    client = world.client()
    world.network.stall()
    client.transport.abortConnection()
    world.clock.advance(3600)
    assert client.lost is ConnectionAborted
    assert len(world.server.connections) == 1
    world.network.unstall()
    world.settle()
    world.assert_nothing_is_left()


def test_a_stalled_network_swallows_attempts() -> None:
    """Connecting through it takes until it is free, and can be given up."""
    world = World()
    world.network.stall()
    outcome = world.attempt()
    given_up = world.network.connect(Factory.forProtocol(RawClient))
    given_up.addErrback(lambda failure: failure.trap(ConnectingCancelledError))
    world.clock.advance(60)
    assert outcome == []
    given_up.cancel()
    world.network.unstall()
    world.settle()
    assert isinstance(outcome[0], RawClient)
    assert len(world.network.connections) == len(world.server.connections) == 1


def test_what_was_written_before_the_end_arrives() -> None:
    """`loseConnection` sends first; what is written after it goes nowhere."""
    world = World()
    client = world.client()
    client.send("INCR", "a")
    client.transport.loseConnection()
    client.send("INCR", "a")
    world.settle()
    assert client.lost is ConnectionDone
    world.assert_nothing_is_left()
    assert world.ask(world.client(), "GET", "a") == b"1"


def test_a_reader_that_pauses_is_waited_for() -> None:
    """While it reads nothing, what is sent to it waits."""
    world = World()
    client = world.client()
    client.transport.pauseProducing()
    client.send("PING")
    world.clock.advance(1)
    assert client.replies == []
    client.transport.resumeProducing()
    world.settle()
    assert client.replies == [b"PONG"]


def test_a_protocol_that_raises_loses_its_connection() -> None:
    """As with TCP, an exception in dataReceived ends the connection with it."""

    class Clumsy(RawClient):
        def dataReceived(self, data: bytes) -> None:
            raise ZeroDivisionError

    world = World()
    clients: list[Clumsy] = []
    world.network.connect(Factory.forProtocol(Clumsy)).addCallback(clients.append)
    world.settle()
    clients[0].send("PING")
    world.settle()
    assert clients[0].lost is ZeroDivisionError
    world.assert_nothing_is_left()


def test_a_client_service_comes_back() -> None:
    """Twisted's ClientService lives on this network: it retries a stopped server and finds it again."""
    world = World()
    factory: Any = Factory.forProtocol(RawClient)
    clock: Any = world.clock
    service = ClientService(world.network, factory, lambda attempt: 1.0, clock)
    service.startService()
    world.settle()
    assert len(world.server.connections) == 1
    world.server.stop()
    world.clock.pump([0.5] * 10)
    assert world.network.connections == ()
    world.server.start()
    world.clock.pump([0.5] * 4)
    assert len(world.server.connections) == 1
    service.stopService()
    world.settle()
    world.assert_nothing_is_left()


def test_an_endpoint_leads_where_it_is_told() -> None:
    """Another server from now on: old connections stay with the old one."""
    world = World()
    elsewhere = MemoryServer(world.clock)
    old = world.client()
    world.network.server = elsewhere
    new = world.client()
    world.ask(old, "SET", "a", "old")
    world.ask(new, "SET", "a", "new")
    assert world.ask(old, "GET", "a") == b"old"
    assert len(elsewhere.connections) == 1


def test_addresses_tell_connections_apart() -> None:
    """The ends know each other by address, and no two clients have the same."""
    world = World()
    first, second = world.client(), world.client()
    assert first.transport.getPeer().port == 6379
    assert first.transport.getHost() != second.transport.getHost()
    assert world.server.connections[0].transport.getPeer() == first.transport.getHost()


def test_any_protocol_can_be_joined() -> None:
    """The network is not Redis's alone: two ordinary protocols talk over it."""

    class Echo(Protocol):
        transport: Any

        def dataReceived(self, data: bytes) -> None:
            self.transport.writeSequence([data, data])

    world = World()
    network: Any = MemoryEndpoint(Factory.forProtocol(Echo), world.clock)
    clients: list[RawClient] = []
    network.connect(Factory.forProtocol(RawClient)).addCallback(clients.append)
    world.settle()
    clients[0].send("a")
    world.settle()
    assert clients[0].replies == [[b"a"]] * 2


def transcript(seed: int) -> list[tuple[float, str, bytes]]:
    """Return every delivery of a run with random delays, a cut, a hang and a restart."""
    chance = random.Random(seed)
    seen: list[tuple[float, str, bytes]] = []

    def deliver(delivery: Delivery) -> float:
        seen.append((world.clock.seconds(), f"{delivery.connection} {delivery.direction}", delivery.data))
        return chance.choice([0.0, 0.01, 0.5])

    world = World(deliver)
    attempts = [world.attempt() for _ in range(5)]
    world.clock.pump([0.1] * 12)
    clients: list[RawClient] = [client for (client,) in attempts]
    faults = [world.network.cut, world.server.hang, world.server.resume, world.server.start, lambda: None]
    for _ in range(40):
        client = chance.choice(clients)
        if client.lost is None:
            client.send("SUBSCRIBE", f"channel {chance.randrange(3)}")
        world.clock.advance(chance.random() / 10)
        if chance.random() < 0.1:
            chance.choice(faults)()
        world.server.resume()
        outcome = world.attempt()
        world.clock.pump([0.2] * 6)
        if outcome and isinstance(outcome[0], RawClient):
            outcome[0].send("EVAL", "return redis.call('PUBLISH', 'channel 1', redis.call('INFO', 'server'))", 0)
    world.clock.pump([0.5] * 4)
    return seen


def test_a_seed_replays_to_the_byte() -> None:
    """The same faults and delays, the same deliveries: nothing depends on addresses in memory or on real time."""
    assert transcript(1) == transcript(1)
    assert transcript(1) != transcript(2)
