"""Compares coord's three doors, and each with redis-py: ``python benchmarks/doors.py [--rounds 5] [--json FILE]``.

A fire alone, from one caller, the median of 1,000; many in one go: 20,000 by `fire_all`, the median of five times; from
eight threads, 4,000 one by one. By hand a fire is SET and PUBLISH in one round trip, many are pipelines of 500. Each
part is a process of its own, and the rounds alternate.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from time import perf_counter, time_ns

import report
from children import Child
from peers.base import say
from servers import server

LONE, MANY, TIMES, OF_A_THREAD, THREADS, CHUNK = 1_000, 20_000, 5, 500, 8, 500


def keys(count: int) -> list[str]:
    """Return new keys."""
    prefix = time_ns()
    return [f"{prefix}/{number}" for number in range(count)]


def chunks(names: list[str]) -> Iterator[list[str]]:
    """Cut them as a loop over a file would."""
    for start in range(0, len(names), CHUNK):
        yield names[start : start + CHUNK]


class Stopwatch:
    """Times of the same, done again and again."""

    def __init__(self) -> None:
        self._times: list[float] = []

    def __enter__(self) -> None:
        self._began = perf_counter()

    def __exit__(self, *_: object) -> None:
        self._times.append(perf_counter() - self._began)

    @property
    def seconds(self) -> float:
        """The median."""
        return median(self._times)


def figures(lone: Stopwatch, many: Stopwatch, **others: float) -> dict[str, float]:
    """Return what a part has measured."""
    return {"lone": lone.seconds * 1e6, "many": MANY / many.seconds, **others}


def twisted(url: str) -> None:
    """Use coord."""
    from twisted.internet.defer import Deferred
    from twisted.internet.task import react

    import coord

    async def main() -> None:
        async with coord.connect(url) as c:
            events, lone, many = c.events("bench"), Stopwatch(), Stopwatch()
            await c.connected()
            for key in keys(LONE):
                with lone:
                    await events.fire(key, "value")
            for _ in range(TIMES):
                values = dict.fromkeys(keys(MANY), "value")
                with many:
                    await events.fire_all(values)
            say(figures=figures(lone, many))

    react(lambda _: Deferred.fromCoroutine(main()))


def aio(url: str, run: Callable[..., object] = asyncio.run) -> None:
    """Use coord.aio."""
    import coord.aio

    async def main() -> None:
        async with coord.aio.connect(url) as c:
            events, lone, many = c.events("bench"), Stopwatch(), Stopwatch()
            await c.connected()
            for key in keys(LONE):
                with lone:
                    await events.fire(key, "value")
            for _ in range(TIMES):
                values = dict.fromkeys(keys(MANY), "value")
                with many:
                    await events.fire_all(values)
            say(figures=figures(lone, many))

    run(main())


def uvloop(url: str) -> None:
    """Use coord.aio on uvloop."""
    import uvloop

    aio(url, uvloop.run)


def blocking(url: str) -> None:
    """Use coord.blocking."""
    import coord.blocking

    with coord.blocking.connect(url) as c:
        events, lone, many = c.events("bench"), Stopwatch(), Stopwatch()
        c.connected()
        for key in keys(LONE):
            with lone:
                events.fire(key, "value")
        for _ in range(TIMES):
            values = dict.fromkeys(keys(MANY), "value")
            with many:
                events.fire_all(values)
        threads = of_threads(lambda key: events.fire(key, "value"))
    say(figures=figures(lone, many, threads=threads))


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
        client, lone, many = redis.from_url(url), Stopwatch(), Stopwatch()
        await client.ping()
        for key in keys(LONE):
            with lone:
                await fire(client, [key])
        for _ in range(TIMES):
            names = keys(MANY)
            with many:
                for chunk in chunks(names):
                    await fire(client, chunk)
        say(figures=figures(lone, many))
        await client.aclose()

    asyncio.run(main())


def redis_blocking(url: str) -> None:
    """Do the same by hand with redis-py."""
    import redis

    client, lone, many = redis.from_url(url), Stopwatch(), Stopwatch()
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
    for _ in range(TIMES):
        names = keys(MANY)
        with many:
            for chunk in chunks(names):
                fire(chunk)
    say(figures=figures(lone, many, threads=of_threads(lambda key: fire([key]))))


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


FIGURES = {
    "lone": "us, a lone fire",
    "many": "fires a second, in one go",
    "threads": "fires a second, eight threads",
}


def main() -> None:
    """Run the rounds; print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, default=None)
    parser.add_argument("--part", nargs=2, metavar=("NAME", "URL"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.part:
        PARTS[asked.part[0]](asked.part[1])
        return
    measured: report.Figures = {}
    with server("redis") as url:
        for _ in range(asked.rounds):
            for name in PARTS:
                with Child("doors.py", "--part", name, url) as part:
                    for key, value in part.hear("figures").items():
                        report.add(measured, FIGURES[key], name, value)
    print(report.table(measured))
    if asked.json is not None:
        report.write(asked.json, measured)


if __name__ == "__main__":
    main()
