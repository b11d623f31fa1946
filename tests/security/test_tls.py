"""TLS: who the server must be, who we are, and what is said where either is not so."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory, Protocol

import coord
from coord import InvalidURL, TimedOut
from failover.fakes import loopback
from failover.processes import free_port
from security.certificates import Authority, Pair
from security.fronts import HOST, front
from support.cluster import Cluster
from support.waiting import eventually, until

pytest.importorskip("OpenSSL", reason="pyOpenSSL is not installed")

# Twisted (26.10) hands over a certificate in a way that pyOpenSSL (26) wants to get rid of.
pytestmark = pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")


@pytest.fixture(scope="module")
def own(authority: Authority) -> Pair:
    """Give the server's certificate: for localhost and its address."""
    return authority.vouch("server", "localhost", HOST)


@pytest.fixture(scope="module")
def ours(authority: Authority) -> Pair:
    """Give a client's certificate."""
    return authority.vouch("node")


def _url(port: int, host: str = HOST, /, **files: Path) -> str:
    query = "&".join(f"{name}={path}" for name, path in files.items())
    return f"rediss://{host}:{port}" + (f"?{query}" if query else "")


@asynccontextmanager
async def _node(url: str, **options: Any) -> AsyncIterator[coord.Coordinator]:
    node = coord.connect(url, node="tls", heartbeat=0.5, **options)
    try:
        yield node
    finally:
        await node.close()


async def _refused(url: str, *words: str) -> None:
    """Check that a node cannot connect, and that the reason holds these words."""
    async with _node(url) as node:
        await until(lambda: node.statistics().connection_attempts > 1, "a second attempt")
        for word in words:
            assert word in node.reason, node.reason
        assert "[(" not in node.reason
        with pytest.raises(TimedOut) as raised:
            await node.connected(timeout=0)
        assert words[0] in str(raised.value)


@pytest.mark.servers("valkey")
@pytest.mark.parametrize("host", [HOST, "localhost"])
async def test_a_server_that_is_who_it_should_be(cluster: Cluster, authority: Authority, own: Pair, host: str) -> None:
    """Waits, fires and replicated pulses go through TLS, to a host's name and to an address."""
    async with (
        front(cluster.server.endpoint(), own) as port,
        _node(_url(port, host, ca=authority.pair.cert)) as node,
    ):
        events = node.events("m")
        waiting = events["a"]
        await events.fire("a", "x" * 60_000)
        assert await waiting == "x" * 60_000
        assert node.server == f"rediss://{host}:{port}"


@pytest.mark.servers("valkey")
async def test_an_authority_that_we_do_not_trust(cluster: Cluster, tmp_path: Path, own: Pair) -> None:
    """Neither another authority nor the system's vouch for it."""
    stranger = Authority(tmp_path, "stranger")
    async with front(cluster.server.endpoint(), own) as port:
        await _refused(_url(port, ca=stranger.pair.cert), "nobody we trust", "certificate", "ca=FILE")
        await _refused(_url(port), "nobody we trust", "certificate", "ca=FILE")


@pytest.mark.servers("valkey")
async def test_a_certificate_for_another_host(cluster: Cluster, authority: Authority) -> None:
    """The right authority is not enough: the host has to be the one in the URL."""
    elsewhere = authority.vouch("elsewhere", "elsewhere.example", "192.0.2.7")
    async with front(cluster.server.endpoint(), elsewhere) as port:
        await _refused(_url(port, "localhost", ca=authority.pair.cert), "another host than", "localhost")
        await _refused(_url(port, HOST, ca=authority.pair.cert), "another host than", HOST)


@pytest.mark.servers("valkey")
async def test_a_certificate_out_of_its_time(cluster: Cluster, authority: Authority) -> None:
    """One that has expired, and one of tomorrow."""
    day = timedelta(days=1)
    for begin, end in ((-2 * day, -day), (day, 2 * day)):
        pair = authority.vouch("untimely", HOST, begin=begin, end=end)
        async with front(cluster.server.endpoint(), pair) as port:
            await _refused(_url(port, ca=authority.pair.cert), "not within its time", "certificate")


@pytest.mark.servers("valkey")
async def test_a_server_that_wants_our_certificate(
    cluster: Cluster, authority: Authority, own: Pair, ours: Pair, tmp_path: Path
) -> None:
    """With one it trusts we get in; without, or with another's, we are told what it wants."""
    stranger = Authority(tmp_path, "stranger").vouch("node")
    async with front(cluster.server.endpoint(), own, authority.pair.cert) as port:
        ca = authority.pair.cert
        async with _node(_url(port, ca=ca, cert=ours.cert, key=ours.key)) as node:
            await node.events("m").fire("a")
        await _refused(_url(port, ca=ca), "certificate of ours", "cert=FILE")
        await _refused(_url(port, ca=ca, cert=stranger.cert, key=stranger.key), "TLS", "unknown ca")


@pytest.mark.servers("valkey")
async def test_plain_text_to_a_tls_port(cluster: Cluster, own: Pair) -> None:
    """A redis:// URL to a TLS port: the reason names rediss://."""
    async with front(cluster.server.endpoint(), own) as port:
        await _refused(f"redis://{HOST}:{port}", "rediss://")


async def test_tls_to_a_plain_port(
    authority: Authority, redis_plain: tuple[subprocess.Popen[bytes], int], tmp_path: Path
) -> None:
    """A rediss:// URL to a plain port: the reason asks whether it speaks TLS, for the server says nothing."""
    process, port = redis_plain
    await _listens(process, port, tmp_path)
    await _refused(_url(port, ca=authority.pair.cert), "does it speak TLS?")


async def test_sentinels_and_primary_behind_tls(authority: Authority, own: Pair, tmp_path: Path) -> None:
    """rediss+sentinel:// speaks TLS with both, trusts the same authority for both, and hears of a switch."""
    stranger = Authority(tmp_path, "stranger")
    async with loopback(sentinels=1) as (fakes, servers), AsyncExitStack() as stack:
        ports = [
            await stack.enter_async_context(front(TCP4ClientEndpoint(reactor, HOST, port), own))
            for port in (fakes[0].port, servers[0].port, servers[1].port)
        ]
        fakes[0].primary = ports[1]
        url = f"rediss+sentinel://{HOST}:{ports[0]}/main"
        async with _node(f"{url}?ca={authority.pair.cert}") as node:
            await node.connected(timeout=5)
            await until(lambda: fakes[0].subscribers == 1, "it listens")
            fakes[0].switch(ports[2])
            await until(lambda: len(servers[1].memory.connections) == 2, "it has moved")
            await node.events("m").fire("k")
        await _refused(f"{url}?ca={stranger.pair.cert}", "nobody we trust", "no sentinel answers")


def test_files_that_are_none(tmp_path: Path, authority: Authority, own: Pair) -> None:
    """A missing file, a key that is none and one that does not fit raise at once, naming what is wrong."""
    junk = tmp_path / "junk"
    junk.write_text("no certificate")
    for files, words in (
        ({"ca": tmp_path / "none"}, "No such file"),
        ({"ca": junk}, "no certificate"),
        ({"ca": own.key}, "no certificate"),
        ({"cert": own.cert, "key": junk}, "certificate and key"),
        ({"cert": own.cert}, "certificate and key"),
        ({"cert": own.cert, "key": authority.pair.key}, "certificate and key"),
    ):
        with pytest.raises(InvalidURL) as raised:
            coord.connect(_url(1, **files))
        assert words in str(raised.value)


def test_no_extra_is_needed() -> None:
    """What coord requires brings TLS by itself."""
    assert any(each.startswith("txredisapi") and "extra" not in each for each in requires("coord") or ())
    assert any(each.startswith("twisted[tls]") for each in requires("txredisapi") or ())


def test_without_pyopenssl() -> None:
    """Where pyOpenSSL is missing, a rediss:// URL is refused with the command that installs it."""
    program = (
        "import sys; sys.modules['OpenSSL'] = None\n"
        "import coord\n"
        "try: coord.connect('rediss://localhost')\n"
        "except coord.InvalidURL as error: print(error)\n"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert "pip install 'twisted[tls]'" in said


# Against a server that speaks TLS itself.


def _spawn(folder: Path, *words: str) -> subprocess.Popen[bytes]:
    binary = shutil.which("redis-server")
    if binary is None:
        pytest.skip("no redis-server on this machine")
    tied = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
    with (folder / "log").open("wb") as log:
        return subprocess.Popen([*tied, binary, "--save", "", "--dir", str(folder), *words], stdout=log, stderr=log)


async def _listens(process: subprocess.Popen[bytes], port: int, folder: Path) -> None:
    factory: Any = Factory.forProtocol(Protocol)

    async def there() -> bool:
        if process.poll() is not None:
            pytest.skip(f"this redis-server speaks no TLS: {(folder / 'log').read_text()[-200:]}")
        try:
            protocol: Any = await TCP4ClientEndpoint(reactor, HOST, port).connect(factory)
        except Exception:  # noqa: BLE001 - not yet
            return False
        protocol.transport.abortConnection()
        return True

    await eventually(there, "the server listens")


@pytest.fixture
def redis_plain(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Give the port of a real server without TLS."""
    port = free_port()
    process = _spawn(tmp_path, "--port", str(port), "--bind", HOST)
    yield process, port
    process.kill()
    process.wait()


@pytest.fixture
def redis_tls(tmp_path: Path, authority: Authority, own: Pair) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Give a real server that speaks TLS, and wants a certificate of its clients."""
    port = free_port()
    files = ("--tls-cert-file", own.cert, "--tls-key-file", own.key, "--tls-ca-cert-file", authority.pair.cert)
    process = _spawn(tmp_path, "--port", "0", "--tls-port", str(port), "--bind", HOST, *map(str, files))
    yield process, port
    process.kill()
    process.wait()


async def test_redis_with_tls(
    redis_tls: tuple[subprocess.Popen[bytes], int], authority: Authority, ours: Pair, tmp_path: Path
) -> None:
    """Redis' own TLS: in with a certificate, refused without, and plain text gets nowhere."""
    process, port = redis_tls
    await _listens(process, port, tmp_path)
    ca = authority.pair.cert
    async with _node(_url(port, ca=ca, cert=ours.cert, key=ours.key)) as node:
        waiting = node.events("m")["a"]
        await node.events("m").fire("a", 1)
        assert await waiting == 1
    await _refused(_url(port, ca=ca), "certificate of ours", "cert=FILE")
    async with _node(f"redis://{HOST}:{port}") as plain:
        await until(lambda: plain.statistics().connection_attempts > 1, "a second attempt")
        assert plain.link is coord.LinkState.CONNECTING
        assert plain.reason
