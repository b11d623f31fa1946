"""ZooKeeper with kazoo: its Lock, its Counter, and an ephemeral node. A contender is a thread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from kazoo.client import KazooClient
from kazoo.retry import KazooRetry

from peers.base import now, say
from peers.locks.base import ENDS_AFTER, name_of, start


def _client(url: str) -> KazooClient:
    # A count that others have overtaken is repeated at once: kazoo's own pause makes contended counts slower.
    client = KazooClient(hosts=url, timeout=ENDS_AFTER, command_retry=KazooRetry(max_tries=-1, delay=0.0001))
    client.start()
    return client


def _play(work: Callable[[str], float], keys: list[str]) -> None:
    work(keys[0])
    end = start()

    def repeat(contender: str) -> list[float]:
        times = []
        while now() < end:
            times.append(work(contender))
        return times

    with ThreadPoolExecutor(len(keys)) as threads:
        say(times=list(threads.map(repeat, keys)))


def lock(url: str, keys: list[str]) -> None:
    """Take the lock, and release it."""
    client = _client(url)
    locks = {key: client.Lock(f"/{name_of(keys)}", key) for key in keys}

    def work(contender: str) -> float:
        with locks[contender]:
            return now()

    _play(work, keys)


def count(url: str, keys: list[str]) -> None:
    """Count. A lost answer is counted twice."""
    client = _client(url)
    counters = {key: client.Counter(f"/{name_of(keys)}") for key in keys}

    def work(contender: str) -> float:
        counters[contender] += 1
        return now()

    _play(work, keys)


def own(url: str, keys: list[str]) -> None:
    """Have an ephemeral node until killed."""
    client = _client(url)
    client.create(f"/{name_of(keys)}", b"value", ephemeral=True)
    say(owned=True)
    with suppress(KeyboardInterrupt):
        threading.Event().wait()


def notice(url: str, keys: list[str]) -> None:
    """Watch the node."""
    client, gone = _client(url), threading.Event()
    client.exists(f"/{name_of(keys)}", watch=lambda _: gone.set())
    say(ready=True)
    gone.wait()
    say(noticed=now())


def run(role: str, url: str, keys: list[str]) -> None:
    """Play one part."""
    globals()[role](url, keys)
