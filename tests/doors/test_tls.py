"""TLS through both doors, to a host by its name: Twisted's TLS has timers, and the name is looked up in a thread."""

from __future__ import annotations

import asyncio
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

import coord.aio
import coord.blocking
from doors.left import nothing_left
from doors.servers import Server
from security.certificates import Authority


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Run a server with TLS; return its address."""
    folder = Path(tempfile.mkdtemp(prefix="coord-tls-"))
    authority = Authority(folder, "authority")
    own = authority.vouch("server", "localhost")
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    files = ["--tls-cert-file", str(own.cert), "--tls-key-file", str(own.key), "--tls-ca-cert-file"]
    files += [str(authority.pair.cert), "--tls-auth-clients", "no", "--bind", "127.0.0.1", "--tls-port", str(port)]
    server = Server(folder, *files)
    yield f"rediss://localhost:{port}?ca={authority.pair.cert}"
    server.stop()
    shutil.rmtree(folder)


def test_aio(url: str) -> None:
    """A fire is answered, and nothing is left."""

    async def main() -> None:
        async with coord.aio.connect(url, timeout=10) as c:
            assert (await c.events("m").fire("aio")).first

    with nothing_left():
        asyncio.run(main())


def test_blocking(url: str) -> None:
    """The same."""
    with nothing_left(), coord.blocking.connect(url, timeout=10) as c:
        assert c.events("m").fire("blocking").first
