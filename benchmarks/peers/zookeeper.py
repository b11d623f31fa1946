"""ZooKeeper with kazoo: an exists watch a key, creates in flight 500 at a time."""

from __future__ import annotations

import threading

from kazoo.client import KazooClient

from peers.base import chunks, now, read_command, say


def _client(url: str) -> KazooClient:
    client = KazooClient(hosts=url)
    client.start()
    return client


def wait_many(url: str, keys: list[str]) -> None:
    """An exists watch a key."""
    client = _client(url)
    client.ensure_path("/" + keys[0].rpartition(".")[0])
    left, done = len(keys), threading.Event()

    def woken(_: object) -> None:
        nonlocal left
        left -= 1
        if not left:
            done.set()

    started = now()
    for chunk in chunks(keys):
        for answer in [client.exists_async(_path(key), watch=woken) for key in chunk]:
            answer.get()
    say(armed=now() - started)
    done.wait()
    say(woken=now())
    client.stop()


def fire_many(url: str, keys: list[str]) -> None:
    """Creates, 500 in flight."""
    client = _client(url)
    say(ready=True)
    read_command()
    started = now()
    for chunk in chunks(keys):
        for answer in [client.create_async(_path(key), b"value") for key in chunk]:
            answer.get()
    say(started=started, fired=now())
    client.stop()


def wait_one(url: str, keys: list[str]) -> None:
    """One key after the other."""
    client = _client(url)
    client.ensure_path("/" + keys[0].rpartition(".")[0])
    times = []
    for key in keys:
        woken = threading.Event()
        client.exists(_path(key), watch=lambda _, woken=woken: woken.set())
        say(armed=key)
        woken.wait()
        times.append(now())
    say(times=times)
    client.stop()


def fire_one(url: str, keys: list[str]) -> None:
    """A create as soon as the key is waited for."""
    client = _client(url)
    times = []
    say(ready=True)
    for key in keys:
        read_command()
        times.append(now())
        client.create(_path(key), b"value")
    say(times=times)
    client.stop()


def _path(key: str) -> str:
    return "/" + key.replace(".", "/")


def run(role: str, url: str, keys: list[str]) -> None:
    """Play one part."""
    globals()[role](url, keys)
