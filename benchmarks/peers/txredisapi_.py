"""txredisapi by hand: its SubscriberProtocol, and pipelines of SET and PUBLISH."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import txredisapi
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import ClientCreator, Factory
from twisted.internet.task import react

from peers.base import chunks, now, read_command, say


class Subscriber(txredisapi.SubscriberProtocol):  # type: ignore[misc]
    """Counts confirmations and passes messages on."""

    def __init__(self) -> None:
        super().__init__(charset=None, convertNumbers=False)
        self.confirmed, self.wanted, self.all = 0, 0, Deferred[None]()
        self.waiting: dict[bytes, Deferred[bytes]] = {}

    def replyReceived(self, reply: Any) -> None:
        """Take a confirmation or a message."""
        if reply[0] == b"message":
            self.waiting[reply[1]].callback(reply[2])
        else:
            self.confirmed += 1
            if self.confirmed == self.wanted:
                self.all.callback(None)

    async def subscribe_all(self, keys: list[str]) -> None:
        """Subscribe in batches, and wait for every confirmation."""
        self.wanted, self.all = self.confirmed + len(keys), Deferred()
        for chunk in chunks(keys):
            self.transport.write(self._build_command("SUBSCRIBE", *chunk))
        await self.all


def _address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "127.0.0.1", parts.port or 6379


async def _command(url: str) -> Any:
    host, port = _address(url)
    return await txredisapi.Connection(host, port, reconnect=False, charset=None, convertNumbers=False)


async def _subscriber(url: str) -> Subscriber:
    host, port = _address(url)
    subscriber: Subscriber = await ClientCreator(reactor, Subscriber).connectTCP(host, port)
    subscriber.factory = Factory()
    return subscriber


async def wait_many(url: str, keys: list[str]) -> None:
    """A Deferred with a callback of its own for each key."""
    subscriber, client = await _subscriber(url), await _command(url)
    left, done = len(keys), Deferred[None]()

    def woken(_: object) -> None:
        nonlocal left
        left -= 1
        if not left:
            done.callback(None)

    started = now()
    for key in keys:
        waiting = subscriber.waiting[key.encode()] = Deferred()
        waiting.addCallback(woken)
    await subscriber.subscribe_all(keys)
    for chunk in chunks(keys):
        for key, value in zip(chunk, await client.mget(chunk), strict=True):
            if value is not None:
                subscriber.waiting[key.encode()].callback(value)
    say(armed=now() - started)
    await done
    say(woken=now())


async def fire_many(url: str, keys: list[str]) -> None:
    """Pipelines of SET and PUBLISH."""
    client = await _command(url)
    say(ready=True)
    read_command()
    started = now()
    for chunk in chunks(keys):
        pipeline = await client.pipeline()
        for key in chunk:
            pipeline.set(key, "value")
            pipeline.publish(key, "value")
        await pipeline.execute_pipeline()
    say(started=started, fired=now())


async def wait_one(url: str, keys: list[str]) -> None:
    """SUBSCRIBE, GET, and the message."""
    subscriber, client = await _subscriber(url), await _command(url)
    times = []
    for key in keys:
        waiting = subscriber.waiting[key.encode()] = Deferred()
        await subscriber.subscribe_all([key])
        await client.get(key)
        say(armed=key)
        await waiting
        times.append(now())
    say(times=times)


async def fire_one(url: str, keys: list[str]) -> None:
    """SET and PUBLISH in one round trip."""
    client = await _command(url)
    times = []
    say(ready=True)
    for key in keys:
        read_command()
        times.append(now())
        pipeline = await client.pipeline()
        pipeline.set(key, "value")
        pipeline.publish(key, "value")
        await pipeline.execute_pipeline()
    say(times=times)


def run(role: str, url: str, keys: list[str]) -> None:
    """Play one part."""
    react(lambda _: Deferred.fromCoroutine(globals()[role](url, keys)))
