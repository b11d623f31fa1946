"""Names of hosts: each that a resolver may know is asked for, and what can be none is refused at the call."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from ipaddress import ip_address
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.address import IPv4Address
from twisted.internet.defer import maybeDeferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.interfaces import IHostnameResolver, IHostResolution
from zope.interface import implementer

import coord
from coord import InvalidURL
from coord.clock import steady
from coord.link.urls import parse_target
from coord.testing import MemoryServer
from failover.fakes import loopback
from security.certificates import Authority
from security.fronts import HOST, front
from support.waiting import until

_reactor: Any = reactor

# Docker Compose before v2, Swarm, Active Directory, sloppy people, and people who do not write English.
NAMES = ["my_redis", "stack_redis.1.x_y", "_redis._tcp.example", "-redis-", "ünï_code", "bücher", "redis."]


@implementer(IHostResolution)
class _Resolution:
    def __init__(self, name: str) -> None:
        self.name = name

    def cancel(self) -> None:
        """Do nothing: it is over at once."""


@implementer(IHostnameResolver)
class _Resolver:
    """Knows every name, at this machine; ``asked`` are the names that it was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def resolveHostName(self, receiver: Any, name: str, **options: Any) -> _Resolution:
        self.asked.append(name)
        resolution = _Resolution(name)
        receiver.resolutionBegan(resolution)
        receiver.addressResolved(IPv4Address("TCP", HOST, options["portNumber"]))
        receiver.resolutionComplete()
        return resolution


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Give an authority that the tests' nodes trust."""
    return Authority(tmp_path_factory.mktemp("authority"), "authority")


@pytest.fixture
def resolver() -> Iterator[_Resolver]:
    """Have the reactor ask one that knows every name."""
    ours = _Resolver()
    before = _reactor.installNameResolver(ours)
    try:
        yield ours
    finally:
        _reactor.installNameResolver(before)


@asynccontextmanager
async def _node(url: str) -> AsyncIterator[coord.Coordinator]:
    node = coord.connect(url, node="n", heartbeat=0.5)
    try:
        yield node
    finally:
        await node.close()


@asynccontextmanager
async def _listening() -> AsyncIterator[tuple[MemoryServer, int]]:
    memory = MemoryServer(steady(reactor))
    port = _reactor.listenTCP(0, memory, interface=HOST)
    try:
        yield memory, port.getHost().port
    finally:
        await maybeDeferred(port.stopListening)
        memory.drop_connections()


@pytest.mark.parametrize("name", NAMES)
async def test_every_name_is_asked_for(resolver: _Resolver, name: str) -> None:
    """What no domain may be called, a host may be: the resolver decides."""
    async with _listening() as (_, port), _node(f"redis://{name}:{port}") as node:
        await node.connected(timeout=5)
        assert (await node.events("m").fire("k")).first
        assert {asked.encode("idna") for asked in resolver.asked} == {name.encode("idna")}


async def test_sentinels_and_what_they_name(resolver: _Resolver, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sentinel may be called so, and the primary that it names may (``resolve-hostnames yes``)."""
    async with loopback(sentinels=2) as (fakes, _):
        monkeypatch.setattr("failover.fakes.HOST", "redis_1")
        hosts = ",".join(f"sentinel_{number}:{fake.port}" for number, fake in enumerate(fakes))
        async with _node(f"redis+sentinel://{hosts}/main") as node:
            await node.connected(timeout=5)
            assert {"sentinel_0", "sentinel_1", "redis_1"} == {*resolver.asked}


@pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")
@pytest.mark.parametrize("name", ["my_redis", "-redis-", "ünï_code", "redis."])
async def test_a_certificate_for_such_a_name(resolver: _Resolver, authority: Authority, name: str) -> None:
    """TLS goes on checking it: the certificate has to be for this name, and one for another is refused."""
    ascii_name = name.removesuffix(".").encode("idna").decode()
    own, others = authority.vouch("own", ascii_name), authority.vouch("others", "its_redis", "host.invalid")
    async with _listening() as (_, port):
        endpoint = TCP4ClientEndpoint(reactor, HOST, port)
        async with (
            front(endpoint, own) as right,
            _node(f"rediss://{name}:{right}?ca={authority.pair.cert}") as node,
        ):
            await node.connected(timeout=5)
        async with (
            front(endpoint, others) as wrong,
            _node(f"rediss://{name}:{wrong}?ca={authority.pair.cert}") as node,
        ):
            await until(lambda: node.statistics().connection_attempts > 1, "a second attempt")
            assert "another host than" in node.reason
            assert ascii_name in node.reason


@pytest.mark.parametrize(
    "host",
    ["a..b", ".a", "x" * 64, f"{'x' * 60}.{'y' * 64}.local", ".".join(["abcdefg"] * 40), "ü" * 63],
)
@pytest.mark.parametrize("url", ["redis://{}", "rediss://{}:7", "redis+sentinel://h1,{}/main"])
def test_what_can_be_no_name(url: str, host: str) -> None:
    """An empty part, or one that is too long, is refused before anything is asked, and is not repeated."""
    with pytest.raises(InvalidURL, match="host's name") as raised:
        parse_target(url.format(host))
    assert host not in str(raised.value)


@pytest.mark.parametrize("host", ["[::1]", "[fe80::1%lo]", "[fe80::1%25lo]", "127.0.0.1"])
def test_addresses_are_no_names(host: str) -> None:
    """An address is taken as it is, with the zone of a link-local one in either way of writing it."""
    target = parse_target(f"redis://{host}:7")
    found: list[Any] = []
    target.resolver().resolve(reactor).addCallback(found.append)
    assert str(ip_address(found[0].endpoint._host)) == host.strip("[]").replace("%25", "%")
