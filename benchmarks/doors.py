"""Compares coord's three doors, and each with redis-py in the same style: ``python benchmarks/doors.py [--rounds 5]``.

A fire alone, from one caller, and many in one go (20,000; from eight threads, 4,000 one by one). By hand a fire is SET
and PUBLISH in one round trip, many are pipelines of 500. Each part is a process of its own, and the rounds alternate.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from time import perf_counter, time_ns

from children import Child
from peers.base import say
from servers import server

LONE, MANY, OF_A_THREAD, THREADS, CHUNK = 1_000, 20_000, 500, 8, 500


def keys(count: int) -> list[str]:
    """Return new keys."""
    prefix = time_ns()
    return [f"{prefix}/{number}" for number in range(count)]


def chunks(names: list[str]) -> Iterator[list[str]]:
    """Cut them as a loop over a file would."""
    for start in range(0, len(names), CHUNK):
        yield names[start : start + CHUNK]


class Lone:
    """Times of single fires."""

    def __init__(self) -> None:
        self._times: list[float] = []

    def __enter__(self) -> None:
        self._began = perf_counter()

    def __exit__(self, *_: object) -> None:
        self._times.append(perf_counter() - self._began)

    @property
    def microseconds(self) -> float:
        """The median."""
        return median(self._times) * 1e6


def twisted(url: str) -> None:
    """Use coord."""
    from twisted.internet.defer import Deferred, gatherResults
    from twisted.internet.task import react

    import coord

    async def main() -> None:
        async with coord.connect(url) as c:
            events, lone = c.events("bench"), Lone()
            await c.connected()
            for key in keys(LONE):
                with lone:
                    await events.fire(key, "value")
            names = keys(MANY)
            began = perf_counter()
            await gatherResults([events.fire(key, "value") for key in names])
            say(figures={"lone": lone.microseconds, "many": MANY / (perf_counter() - began)})

    react(lambda _: Deferred.fromCoroutine(main()))


def aio(url: str, run: Callable[..., object] = asyncio.run) -> None:
    """Use coord.aio."""
    import coord.aio

    async def main() -> None:
        async with coord.aio.connect(url) as c:
            events, lone = c.events("bench"), Lone()
            await c.connected()
            for key in keys(LONE):
                with lone:
                    await events.fire(key, "value")
            names = keys(MANY)
            began = perf_counter()
            await asyncio.gather(*[events.fire(key, "value") for key in names])
            say(figures={"lone": lone.microseconds, "many": MANY / (perf_counter() - began)})

    run(main())


def uvloop(url: str) -> None:
    """Use coord.aio on uvloop."""
    import uvloop

    aio(url, uvloop.run)


def blocking(url: str) -> None:
    """Use coord.blocking."""
    import coord.blocking

    with coord.blocking.connect(url) as c:
        events, lone = c.events("bench"), Lone()
        c.connected()
        for key in keys(LONE):
            with lone:
                events.fire(key, "value")
        names = keys(MANY)
        began = perf_counter()
        events.fire_all(dict.fromkeys(names, "value"))
        many = MANY / (perf_counter() - began)
        threads = of_threads(lambda key: events.fire(key, "value"))
    say(figures={"lone": lone.microseconds, "many": many, "threads": threads})


def redis_aio(url: str) -> None:
    """Do the same by hand with redis-py for asyncio."""
    import redis.asyncio as redis

    async def fire(client: redis.Redis, names: list[str]) -> None:
        pipeline = client.pipeline(transaction=False)
        for key in names:
            pipeline.set(key, "value", nx=True)
            pipeline.publish(key, "value")
        await pipeline.execute()

    async def main() -> None:
        client, lone = redis.from_url(url), Lone()
        await client.ping()
        for key in keys(LONE):
            with lone:
                await fire(client, [key])
        names = keys(MANY)
        began = perf_counter()
        for chunk in chunks(names):
            await fire(client, chunk)
        say(figures={"lone": lone.microseconds, "many": MANY / (perf_counter() - began)})
        await client.aclose()

    asyncio.run(main())


def redis_blocking(url: str) -> None:
    """Do the same by hand with redis-py."""
    import redis

    client, lone = redis.from_url(url), Lone()
    client.ping()

    def fire(names: list[str]) -> None:
        pipeline = client.pipeline(transaction=False)
        for key in names:
            pipeline.set(key, "value", nx=True)
            pipeline.publish(key, "value")
        pipeline.execute()

    for key in keys(LONE):
        with lone:
            fire([key])
    names = keys(MANY)
    began = perf_counter()
    for chunk in chunks(names):
        fire(chunk)
    many = MANY / (perf_counter() - began)
    say(figures={"lone": lone.microseconds, "many": many, "threads": of_threads(lambda key: fire([key]))})


def of_threads(fire: Callable[[str], object]) -> float:
    """Return how many fires a second eight threads make, each one after the other."""

    def work(names: list[str]) -> None:
        for key in names:
            fire(key)

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(work, [keys(1) for _ in range(THREADS)]))
        shares = [keys(OF_A_THREAD) for _ in range(THREADS)]
        began = perf_counter()
        list(pool.map(work, shares))
        return THREADS * OF_A_THREAD / (perf_counter() - began)


PARTS = {
    "coord": twisted,
    "coord.aio": aio,
    "coord.aio on uvloop": uvloop,
    "redis-py asyncio": redis_aio,
    "coord.blocking": blocking,
    "redis-py": redis_blocking,
}


def main() -> None:
    """Run the rounds, and print a table of medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--part", nargs=2, metavar=("NAME", "URL"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.part:
        PARTS[asked.part[0]](asked.part[1])
        return
    found: dict[str, list[dict[str, float]]] = {name: [] for name in PARTS}
    with server("redis") as url:
        for _ in range(asked.rounds):
            for name, figures in found.items():
                with Child("doors.py", "--part", name, url) as part:
                    figures.append(part.hear("figures"))
    sys.stdout.write(f"{'':20} {'us, a lone fire':>16} {'fires/s, one go':>16} {'fires/s, 8 threads':>19}\n")
    for name, figures in found.items():
        row = [
            median(each[key] for each in figures) if key in figures[0] else None for key in ("lone", "many", "threads")
        ]
        cells = [f"{value:,.0f}" if value is not None else "-" for value in row]
        sys.stdout.write(f"{name:20} {cells[0]:>16} {cells[1]:>16} {cells[2]:>19}\n")


if __name__ == "__main__":
    main()
