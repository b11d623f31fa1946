"""What a strict type checker says of a program that uses coord: each line without a comment is right, the others not.

It is checked as it is (an ignored error that is none is one), and never run.
"""

from __future__ import annotations

from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, UNIXClientEndpoint
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.task import Clock

import coord
from coord import Applied, Coordinator, Json
from coord.testing import Cluster


def connecting(unix: UNIXClientEndpoint, anything: IStreamClientEndpoint) -> list[Coordinator]:
    """Connect to every kind of address, with every option."""
    coord.connect("redis://h", cache_sise=3)  # type: ignore[call-arg]
    coord.connect("redis://h", heartbeat="5")  # type: ignore[arg-type]
    coord.connect("redis://h", password=b"secret")  # type: ignore[arg-type]
    coord.connect("redis://h", password=lambda: b"secret")  # type: ignore[arg-type]
    coord.connect(("h", 6379))  # type: ignore[arg-type]
    return [
        coord.connect(),
        coord.connect("redis://h", namespace="ns", node="n", reactor=Clock()),
        coord.connect("redis://h", username="me", password="secret", sentinel_password="secret", database=1),
        coord.connect("redis://h", password=Path("/run/secrets/redis").read_text),
        coord.connect("redis://h", heartbeat=1, cache_size=1, history=1, retention=1.5, timeout=1, max_pending_calls=1),
        coord.connect(TCP4ClientEndpoint(reactor, "h", 6379)),
        coord.connect(HostnameEndpoint(reactor, "h", 6379)),
        coord.connect(unix),
        coord.connect(anything),
    ]


def other_doors(cluster: Cluster) -> Deferred[Coordinator]:
    """Pass the same options on."""
    coord.service("redis://h", cache_sise=3)  # type: ignore[call-arg]
    coord.service("redis://h", node="n", cache_size=3, reactor=Clock())
    coord.service(HostnameEndpoint(reactor, "h", 6379))
    cluster.node("n", cache_sise=3)  # type: ignore[call-arg]
    cluster.node("n", node="m")  # type: ignore[call-arg]
    cluster.node("n", namespace="ns", cache_size=3)
    coord.launch(cache_sise=3)  # type: ignore[call-arg]
    coord.launch(password="secret")  # type: ignore[call-arg]
    return coord.launch("/var/lib/coord", node="n", namespace="ns", database=1, heartbeat=1.0)


async def calling(c: Coordinator) -> tuple[Json, bool]:
    """Wait and fire."""
    events = c.events("m")
    await events.fire("k", replica=1)  # type: ignore[call-arg]
    await events.fire("k", timeout="1")  # type: ignore[arg-type]
    await events.fire(b"k")  # type: ignore[arg-type]
    applied: Applied = await events.fire("k", {"at": "/mnt"}, replicas=1, within=0.5, once="name")
    return await events["k"], applied.first
