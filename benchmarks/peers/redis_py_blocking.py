"""redis-py without asyncio, with hiredis: SUBSCRIBE, then GET; SET and PUBLISH."""

from __future__ import annotations

import redis

from peers.base import chunks, now, read_command, say


def wait_many(url: str, keys: list[str]) -> None:
    """Count the messages down."""
    client = redis.from_url(url)
    pubsub = client.pubsub()
    waiting: dict[bytes, bytes | None] = {}
    started = now()
    for chunk in chunks(keys):
        waiting.update((key.encode(), None) for key in chunk)
        pubsub.subscribe(*chunk)
        for _ in chunk:
            pubsub.get_message(timeout=10)
    subscribed = now() - started
    left = len(keys)
    for chunk in chunks(keys):
        for key, value in zip(chunk, client.mget(chunk), strict=True):
            waiting[key.encode()] = value
            left -= value is not None
    # Without the GETs: that is what coord's arming is compared with.
    say(armed=subscribed)
    for message in pubsub.listen():
        if message["type"] == "message":
            waiting[message["channel"]] = message["data"]
            left -= 1
            if not left:
                break
    say(woken=now())


def fire_many(url: str, keys: list[str]) -> None:
    """Pipelines of SET and PUBLISH."""
    client = redis.from_url(url)
    client.ping()
    say(ready=True)
    read_command()
    started = now()
    for chunk in chunks(keys):
        pipeline = client.pipeline(transaction=False)
        for key in chunk:
            pipeline.set(key, "value")
            pipeline.publish(key, "value")
        pipeline.execute()
    say(started=started, fired=now())


def wait_one(url: str, keys: list[str]) -> None:
    """SUBSCRIBE, GET, and the message."""
    client = redis.from_url(url)
    pubsub = client.pubsub()
    times = []
    for key in keys:
        pubsub.subscribe(key)
        pubsub.get_message(timeout=10)
        client.get(key)
        say(armed=key)
        pubsub.get_message(timeout=10)
        times.append(now())
    say(times=times)


def fire_one(url: str, keys: list[str]) -> None:
    """SET and PUBLISH in one round trip."""
    client = redis.from_url(url)
    client.ping()
    times = []
    say(ready=True)
    for key in keys:
        read_command()
        times.append(now())
        pipeline = client.pipeline(transaction=False)
        pipeline.set(key, "value")
        pipeline.publish(key, "value")
        pipeline.execute()
    say(times=times)


def run(role: str, url: str, keys: list[str]) -> None:
    """Play one part."""
    globals()[role](url, keys)
