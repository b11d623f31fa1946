"""What answers is not always what the URL says, and may speak before it is asked: each is named."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.defer import maybeDeferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory, Protocol

import coord
from coord import AccessDenied, ServerRefused
from coord.clock import steady
from failover.fakes import loopback
from failover.processes import HOST, ServerProcess, binary, free_port
from support.cluster import Cluster, failure_of
from support.waiting import until

_reactor: Any = reactor

KINDS = ("redis", "valkey")


@pytest.fixture(params=KINDS)
def process(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ServerProcess]:
    """Give a server of each kind that is not running yet."""
    if binary(request.param) is None:
        pytest.skip(f"no {request.param} on this machine")
    made = ServerProcess(tmp_path, "server", kind=request.param)
    try:
        yield made
    finally:
        made.end()


async def _said(url: Any, kind: type[Exception] | None = None, **options: Any) -> str:
    """Return why a node cannot connect; where a kind of error is named, waiters and callers get it too."""
    node = coord.connect(url, node="n", heartbeat=0.5, **options)
    try:
        asked: list[Any] = [node.connected(), node.events("m").fire("k"), node.events("m")["k"]]
        if kind is None:
            await until(lambda: node.statistics().connection_attempts > 1, "a second attempt")
            for each in asked:
                each.addErrback(lambda _: None)
        else:
            await until(lambda: all(each.called for each in asked), "all are told")
            for each in asked:
                error = failure_of(each)
                assert isinstance(error, kind), error
        return node.reason
    finally:
        await node.close()


# A server that is no server, or another kind of one.


@pytest.mark.parametrize("way", ["", ":password@"])
async def test_a_clusters_node(process: ServerProcess, way: str) -> None:
    """A node of a cluster is refused by name, though it answers most of what is asked, with a password or without."""
    process.spawn(f"cluster-enabled yes\ncluster-port {free_port()}\n")
    await process.ready()
    for database in ("", "/3"):
        said = await _said(f"redis://{way}{HOST}:{process.port}{database}", ServerRefused)
        where = f"{HOST}:{process.port}"
        assert f"{where}{database}: a cluster's node; the URL of the cluster is redis+cluster://{where}" in said
    said = await _said(f"redis+sentinel://{HOST}:{process.port}/main", ServerRefused)
    assert f"no sentinel but a cluster's node; the URL of the cluster is redis+cluster://{HOST}:{process.port}" in said


async def test_a_server_of_its_own_is_no_cluster(process: ServerProcess) -> None:
    """A cluster's URL with the address of a single server: the URL to use is named."""
    process.spawn("")
    await process.ready()
    said = await _said(f"redis+cluster://{HOST}:{process.port}", ServerRefused)
    assert f"a server of its own, and no cluster's node; its URL is redis://{HOST}:{process.port}" in said


async def test_a_sentinel_is_no_server(process: ServerProcess) -> None:
    """The URL to use has its address, and its service where there is one."""
    process.spawn(f"sentinel monitor main {HOST} 1 1\n", "--sentinel")
    await process.ready()
    said = await _said(f"redis://{HOST}:{process.port}/3", ServerRefused)
    assert f"a sentinel; the URL of what it watches over is redis+sentinel://{HOST}:{process.port}/main" in said
    # The password for the server is none that the sentinel has to know.
    assert "a sentinel;" in await _said(f"redis://:password@{HOST}:{process.port}", ServerRefused)
    await process.command("SENTINEL", "MONITOR", "other", HOST, 2, 1)
    said = await _said(f"redis://{HOST}:{process.port}", ServerRefused)
    assert said.endswith(f"redis+sentinel://{HOST}:{process.port}/SERVICE")
    said = await _said(TCP4ClientEndpoint(steady(reactor), HOST, process.port), ServerRefused)
    assert said.endswith("redis+sentinel://HOST1,HOST2,HOST3/SERVICE")


async def test_a_server_is_no_sentinel(process: ServerProcess) -> None:
    """A sentinel's URL with the server's own address: the URL to use is named."""
    process.spawn("")
    await process.ready()
    said = await _said(f"redis+sentinel://{HOST}:{process.port}/main", ServerRefused)
    assert f"no sentinel; if it is the server itself, the URL is redis://{HOST}:{process.port}" in said


async def test_one_sentinel_that_is_none() -> None:
    """Others of the group that are sentinels do not suffer from it."""
    async with loopback(sentinels=2) as (fakes, servers):
        hosts = ",".join(f"{HOST}:{port}" for port in (fakes[0].port, servers[1].port, fakes[1].port))
        node = coord.connect(f"redis+sentinel://{hosts}/main")
        await node.connected(timeout=5)
        await node.close()


async def test_a_replica_names_its_primary(process: ServerProcess) -> None:
    """A replica is waited for, for it may be promoted; the reason says whose it is."""
    process.spawn(f"replicaof {HOST} 1\n")
    await process.ready()
    assert await _said(f"redis://{HOST}:{process.port}") == f"the server is a replica of {HOST}:1"


class _Stranger(Protocol):
    """Says something at once, or when it is spoken to, and hangs up then; some also echo what they were told."""

    transport: Any
    factory: Any

    def connectionMade(self) -> None:
        if self.factory.first:
            self.transport.write(self.factory.words)

    def dataReceived(self, data: bytes) -> None:
        if not self.factory.first:
            self.transport.write(self.factory.words + data)
        self.transport.loseConnection()


@asynccontextmanager
async def _stranger(words: bytes, *, first: bool = False) -> AsyncIterator[int]:
    factory: Any = Factory.forProtocol(_Stranger)
    factory.noisy, factory.words, factory.first = False, words, first
    port = _reactor.listenTCP(0, factory, interface=HOST)
    try:
        yield port.getHost().port
    finally:
        await maybeDeferred(port.stopListening)


@pytest.mark.parametrize(
    ("words", "first", "name"),
    [
        (b"HTTP/1.1 400 Bad Request\r\nServer: nginx\r\n\r\n", False, "HTTP server"),
        (b"SSH-2.0-OpenSSH_9.2p1\r\n", True, "SSH server"),
        (b"AMQP\0\0\x09\x01", False, "AMQP"),
        (b"220 mail.example ESMTP\r\n", True, "mail or FTP"),
        (b"ERROR\r\n", False, "memcached"),
        (b"J\0\0\0\x0a8.0.36\0", True, "does not speak the Redis protocol"),
        (b"* OK IMAP4rev1 ready\r\n", True, "does not speak the Redis protocol"),
    ],
)
@pytest.mark.parametrize("scheme", ["redis", "redis+sentinel"])
async def test_strangers_are_named(scheme: str, words: bytes, first: bool, name: str) -> None:
    """Servers of other protocols are recognized by how they begin; what they repeat of ours is not shown."""
    async with _stranger(words, first=first) as port:
        path, query = ("/main", "?sentinel_password=s3cret") if scheme != "redis" else ("", "")
        said = await _said(f"{scheme}://:s3cret@{HOST}:{port}{path}{query}")
    assert name in said
    assert "s3cret" not in said


async def test_a_stranger_that_begins_as_redis_does() -> None:
    """A greeting that is a reply of Redis' protocol is no answer to INFO."""
    async with _stranger(b"+OK POP3 ready\r\n", first=True) as port:
        assert "does not know INFO" in await _said(f"redis://{HOST}:{port}")
        assert "does not answer as a sentinel does" in await _said(f"redis+sentinel://{HOST}:{port}/main")


# What is said before anything is asked.


def _other_address() -> str | None:
    """Return an address of this machine that is not the loopback's."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # Nothing is sent: only the way out is looked up.
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return None
        address: str = probe.getsockname()[0]
    return None if address.startswith("127.") else address


@pytest.mark.parametrize("way", ["redis://{}", "redis://:password@{}", "redis://{}/3", "redis+sentinel://{}/main"])
async def test_protected_mode(process: ServerProcess, way: str) -> None:
    """A server without a password that lets nobody in from elsewhere denies access, in words that say what to do."""
    address = _other_address()
    if address is None:
        pytest.skip("this machine has no address but the loopback's")
    process.spawn("bind 0.0.0.0\nprotected-mode yes\n")
    await process.ready()
    said = await _said(way.format(f"{address}:{process.port}"), AccessDenied)
    assert "protected mode" in said
    assert "requirepass" in said
    assert len(said) < 300


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("way", ["", ":password@", "/3"])
async def test_protected_mode_said_early_and_late(way: str, first: bool) -> None:
    """Whether it is said before or after our first question, it is the answer to it."""
    words = b"-DENIED Redis is running in protected mode because protected mode is enabled and no password is set.\r\n"
    async with _stranger(words, first=first) as port:
        said = await _said(
            f"redis://{HOST}:{port}{way}" if way == "/3" else f"redis://{way}{HOST}:{port}", AccessDenied
        )
        assert "protected mode" in said


@pytest.mark.parametrize("way", ["redis://{}", "redis://:password@{}", "redis://{}/3", "redis+sentinel://{}/main"])
async def test_too_many_clients(process: ServerProcess, way: str) -> None:
    """A server without room says so, and is tried again; it is no denial."""
    process.spawn("maxclients 1\n")
    await process.ready()
    with socket.create_connection((HOST, process.port)):
        said = await _said(way.format(f"{HOST}:{process.port}"))
    assert "as many clients as it may (its maxclients): ERR max number of clients" in said


async def test_room_for_one_connection_only(process: ServerProcess) -> None:
    """The second of the two connections is turned away in the same words."""
    process.spawn("maxclients 1\n")
    await process.ready()
    assert "its maxclients" in await _said(f"redis://{HOST}:{process.port}")


async def test_it_comes_in_when_there_is_room(process: ServerProcess) -> None:
    """A node that was turned away connects as soon as there is room."""
    process.spawn("maxclients 2\n")
    await process.ready()
    with socket.create_connection((HOST, process.port)):
        node = coord.connect(f"redis://{HOST}:{process.port}", node="n")
        await until(lambda: "maxclients" in node.reason, "it is turned away")
    await node.connected(timeout=10)
    await node.close()


@pytest.mark.servers("redis", "valkey")
@pytest.mark.unrestricted
async def test_the_connections_have_a_name(cluster: Cluster) -> None:
    """CLIENT LIST shows both, by the node's name."""
    await cluster.linked("n1")
    clients: bytes = await cluster.server.command("CLIENT", "LIST")
    assert clients.count(b" name=coord:n1 ") == 2
