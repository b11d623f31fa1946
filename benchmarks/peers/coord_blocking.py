"""coord.blocking."""

from __future__ import annotations

from concurrent.futures import wait

import coord.blocking
from peers.base import chunks, now, read_command, say


def wait_many(url: str, keys: list[str]) -> None:
    """A future for each key."""
    with coord.blocking.connect(url, node="waiter") as c:
        events = c.events("bench")
        c.connected()
        started = now()
        waiting = [events[key] for key in keys]
        events.armed()
        say(armed=now() - started)
        wait(waiting)
        say(woken=now())


def fire_many(url: str, keys: list[str]) -> None:
    """Fire them all, a chunk in one crossing."""
    with coord.blocking.connect(url, node="firer") as c:
        events = c.events("bench")
        c.connected()
        say(ready=True)
        read_command()
        started = now()
        for chunk in chunks(keys):
            events.fire_all(dict.fromkeys(chunk, "value"))
        say(started=started, fired=now())


def wait_one(url: str, keys: list[str]) -> None:
    """One key after the other: wait, armed, woken."""
    with coord.blocking.connect(url, node="waiter") as c:
        events = c.events("bench")
        c.connected()
        times = []
        for key in keys:
            waiting = events[key]
            events.armed()
            say(armed=key)
            waiting.result()
            times.append(now())
        say(times=times)


def fire_one(url: str, keys: list[str]) -> None:
    """Fire a key as soon as it is waited for."""
    with coord.blocking.connect(url, node="firer") as c:
        events = c.events("bench")
        c.connected()
        times = []
        say(ready=True)
        for key in keys:
            read_command()
            times.append(now())
            events.fire(key, "value")
        say(times=times)


def run(role: str, url: str, keys: list[str]) -> None:
    """Play one part."""
    globals()[role](url, keys)
