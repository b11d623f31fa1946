"""Streams of changes by the thousand: ``python benchmarks/streams.py [--streams 10000] [--rounds 3] [--json FILE]``.

In each round two gateways take turns: ``coord web``, and a stream of server-sent events written by hand with FastAPI
and redis-py (``streams_fastapi.py``), of which this file says what it does less. The clients are sockets of this
process. Of the gateway's process are measured

- the memory of a stream that is idle (resident, with all streams less that with none);
- the share of a core that idle streams take;
- the time of its processor, and the time by the clock, from one change until all streams have it;
- the same, for streams that come back and have missed some changes.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import selectors
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

import report
from redis import Redis
from servers import server

import coord
import coord.blocking

HERE = Path(__file__).parent
WORD = b"\ndata: "
"""What each event has once."""
VALUE = {"disk": 7, "at": "/mnt/abc"}
IDLE = 30.0
CHANGES = 10
RESUMING = 1_000
MISSED = 200
TICK = 1 / os.sysconf("SC_CLK_TCK")


class Clients:
    """Sockets that read streams; ``events`` counts what they get, ``last`` is the id of the latest."""

    def __init__(self, url: str, path: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname
        assert parts.port
        self._address = parts.hostname, parts.port
        self._path = path.encode()
        self._selector = selectors.DefaultSelector()
        # The end of what each has read: a word may come in two parts.
        self._ends: dict[socket.socket, bytes] = {}
        self.events = 0
        self.last = b""

    def __len__(self) -> int:
        return len(self._ends)

    def open(self, count: int, last: bytes = b"") -> None:
        """Open so many streams; of those that begin with what is new, wait until each has begun."""
        resume = b"Last-Event-ID: %b\r\n" % last if last else b""
        request = b"GET %b HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n%b\r\n"
        for number in range(count):
            one = socket.create_connection(self._address)
            one.sendall(request % (self._path, resume))
            one.setblocking(False)
            self._selector.register(one, selectors.EVENT_READ)
            self._ends[one] = b""
            if not last and number % 200 == 199:
                self.read(len(self))
        if not last:
            self.read(len(self))

    def read(self, events: int, within: float = 120.0) -> None:
        """Read until there were so many events; raise ``TimeoutError`` after some seconds."""
        end = time.monotonic() + within
        while self.events < events:
            if time.monotonic() > end:
                raise TimeoutError(f"{self._address}: {self.events} events of {events} within {within} s")
            for key, _ in self._selector.select(0.1):
                self._take(key.fileobj)  # type: ignore[arg-type]

    def drain(self, seconds: float) -> None:
        """Read for so long."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            for key, _ in self._selector.select(left):
                self._take(key.fileobj)  # type: ignore[arg-type]

    def _take(self, one: socket.socket) -> None:
        data = one.recv(1 << 20)
        if not data:
            raise ConnectionError("a stream was ended")
        data = self._ends[one] + data
        self.events += data.count(WORD)
        self._ends[one] = data[-len(WORD) + 1 :]
        at = data.rfind(b"id: ")
        if at >= 0 and (end := data.find(b"\n", at)) >= 0:
            self.last = data[at + 4 : end]

    def close(self) -> None:
        """Hang up."""
        for one in self._ends:
            self._selector.unregister(one)
            one.close()
        self._ends.clear()
        self.events = 0


class Gateway:
    """A process that serves streams at a URL; ``fire`` makes a change."""

    path: str

    def __init__(self, redis: str, words: list[str], environment: dict[str, str]) -> None:
        self._words = [sys.executable, *words]
        self._environment = os.environ | environment
        self.redis = redis
        self.url = ""
        self.start()

    def start(self) -> None:
        """Start it, anew if it runs."""
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        words = [word.replace("PORT", str(self.port)) for word in self._words]
        self.process = subprocess.Popen(words, cwd=HERE, env=self._environment, stderr=subprocess.DEVNULL)
        await_port(self.port)

    def stop(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()

    def cpu(self) -> float:
        """Return the seconds of a core that it has taken."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) * TICK

    def memory(self) -> float:
        """Return its resident memory, in KB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return float(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])

    def fire(self, count: int) -> None:
        """Make so many changes."""
        raise NotImplementedError

    def close(self) -> None:
        """End all."""
        self.stop()


class Coord(Gateway):
    """``coord web``."""

    path = "/v1/watch?map=m"

    def __init__(self, redis: str, folder: Path) -> None:
        config = folder / "web.toml"
        most = "connections = 30000\nconnections_of_one = 30000\nstreams = 30000\nstreams_of_one = 30000\n"
        config.write_text(f'anonymous = ["read:*"]\n[limits]\n{most}rate = 100000\nburst = 100000\n')
        words = ["-m", "coord.cli", "web", "--listen", "127.0.0.1:PORT", "--config", str(config)]
        super().__init__(redis, words, {"COORD_URL": redis})
        self._node = coord.blocking.connect(redis)
        self._events = self._node.events("m")

    def fire(self, count: int) -> None:
        """Pulse."""
        for future in [self._events.pulse(f"key{number}", VALUE) for number in range(count)]:
            if not isinstance(future, coord.Applied):
                raise TypeError(future)

    def close(self) -> None:
        """End all."""
        self._node.close()
        super().close()


class FastApi(Gateway):
    """Streams by hand: of one stream of Redis, without rights, filters, several maps, or a word about lost history."""

    path = "/watch"

    def __init__(self, redis: str, folder: Path) -> None:
        del folder
        words = ["-m", "uvicorn", "streams_fastapi:app", "--port", "PORT", "--log-level", "warning"]
        words += ["--backlog", "1024", "--loop", "asyncio"]
        super().__init__(redis, words, {"REDIS_URL": redis})
        self._redis = Redis.from_url(redis)

    def fire(self, count: int) -> None:
        """Append to the stream what coord's changes are as JSON."""
        for number in range(count):
            fields = {"map": "m", "key": f"key{number}", "kind": "pulsed", "latched": False, "value": VALUE}
            self._redis.xadd("m", {"data": json.dumps({**fields, "time": time.time(), "node": "node"})})


def measure(gateway: Gateway, streams: int, idle: float, figures: report.Figures, name: str) -> None:
    """Note the figures of one gateway, in whose streams nothing happens for ``idle`` seconds first."""
    empty = gateway.memory()
    clients = Clients(gateway.url, gateway.path)
    clients.open(streams)
    report.add(figures, "KB a stream", name, (gateway.memory() - empty) / streams)
    before, began = gateway.cpu(), time.monotonic()
    clients.drain(idle)
    share = (gateway.cpu() - before) / (time.monotonic() - began)
    report.add(figures, "% of a core, idle", name, 100 * share)
    fan_out(gateway, clients, figures, name)
    last = clients.last
    clients.close()
    gateway.fire(MISSED)
    resume(gateway, last, figures, f"{name}, kept")
    gateway.stop()
    gateway.start()
    resume(gateway, last, figures, f"{name}, restarted")


def fan_out(gateway: Gateway, clients: Clients, figures: report.Figures, name: str) -> None:
    """Note what it costs until all streams have a change."""
    before, clock = gateway.cpu(), []
    for _ in range(CHANGES):
        began = time.monotonic()
        gateway.fire(1)
        clients.read(clients.events + len(clients))
        clock.append(time.monotonic() - began)
    report.add(figures, "s of CPU, one change to all", name, (gateway.cpu() - before) / CHANGES)
    report.add(figures, "s, one change to all", name, median(clock))


def resume(gateway: Gateway, last: bytes, figures: report.Figures, name: str) -> None:
    """Note what it costs until all that come back have what they missed."""
    clients = Clients(gateway.url, gateway.path)
    before, began = gateway.cpu(), time.monotonic()
    clients.open(RESUMING, last)
    clients.read(RESUMING * MISSED)
    report.add(figures, f"s, {RESUMING} resume {MISSED} changes", name, time.monotonic() - began)
    report.add(figures, f"s of CPU, {RESUMING} resume {MISSED} changes", name, gateway.cpu() - before)
    clients.close()


def free_port() -> int:
    """Return a port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def await_port(port: int) -> None:
    """Wait until something listens."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise TimeoutError(f"nothing listens at {port}")


def main() -> None:
    """Measure, and print a table."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--streams", type=int, default=10_000)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--only", choices=("coord", "fastapi"))
    options.add_argument("--quick", action="store_true", help="few streams, for seconds, to see that it works")
    options.add_argument("--json", type=Path)
    given = options.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    figures: report.Figures = {}
    kinds: dict[str, type[Gateway]] = {"coord": Coord, "fastapi": FastApi}
    for _ in range(given.rounds):
        for name, kind in kinds.items():
            if given.only in (None, name):
                with server("redis") as redis, tempfile.TemporaryDirectory() as folder:
                    gateway = kind(redis, Path(folder))
                    try:
                        streams, idle = (200, 1.0) if given.quick else (given.streams, IDLE)
                        measure(gateway, streams, idle, figures, name)
                    finally:
                        gateway.close()
    for figure, values in figures.items():
        print(figure, {name: [round(value, 3) for value in each] for name, each in values.items()})
    if given.json:
        report.write(given.json, figures)


if __name__ == "__main__":
    main()
