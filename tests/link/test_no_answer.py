"""A host that does not even refuse: what is said of it, and that closing does not wait for it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from time import monotonic

import pytest

import coord
from support.waiting import until

WAYS = ["redis://{}", "redis+sentinel://{}/main", "redis+sentinel://{},{}/main"]
HOSTS = ["127.0.0.1", "localhost"]


@pytest.fixture
def silent_port() -> Iterator[int]:
    """Give a port that completes no connection: as many as its queue has room for wait already."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(listening.getsockname())
        try:
            yield listening.getsockname()[1]
        finally:
            for each in waiting:
                each.close()


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("way", WAYS)
async def test_the_reason_says_that_nothing_came(silent_port: int, way: str, host: str) -> None:
    """The reason names the time that was waited, not what Twisted calls an attempt that was given up."""
    node = coord.connect(way.replace("{}", f"{host}:{silent_port}"), node="n", heartbeat=0.2)
    await until(lambda: node.statistics().connection_attempts > 1, "a second attempt")
    assert "within" in node.reason
    assert "Address" not in node.reason
    await node.close()


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("way", WAYS)
async def test_closing_does_not_wait_for_it(silent_port: int, way: str, host: str) -> None:
    """A coordinator that is connecting is closed at once."""
    node = coord.connect(way.replace("{}", f"{host}:{silent_port}"), node="n")
    await until(lambda: node.statistics().connection_attempts > 0, "the first attempt")
    begun = monotonic()
    await node.close()
    assert monotonic() - begun < 2
    assert node.reason == "closed"
