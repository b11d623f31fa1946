"""Gateways, a server and clients of streams as processes and sockets, and what may befall them."""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from contextlib import suppress
from queue import Queue
from random import Random
from threading import Thread
from typing import Final

from redis import Redis

import coord.blocking
from cli.processes import RedisServer
from coord.errors import Error
from coord.web.positions import START
from web.conftest import Process
from web.stream_client import Broken, Client
from web.stream_line import Line
from web.stream_truth import Truth

__all__ = ["Stage"]

MAPS: Final = ("m", "n")
KEYS: Final = ("open/a", "open/b", "shut/a")
VALUE: Final = "x" * 1_500
PATIENCE: Final = 30.0

_WEIGHTS: Final = {
    "fire": 20,
    "burst": 6,
    "pass_time": 20,
    "cut": 8,
    "stop_reading": 6,
    "read_again": 6,
    "drop": 3,
    "kill_gateway": 2,
    "stop_gateway": 1,
    "restart": 1,
    "flush": 1,
}


class Writer(Thread):
    """Makes changes, one after the other, as far as the server takes them."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self._node = coord.blocking.connect(url, node="writer")
        self._wanted: Queue[tuple[str, str] | None] = Queue()
        self.start()

    @property
    def pending(self) -> int:
        """How many changes are still to be made."""
        return self._wanted.unfinished_tasks

    def pulse(self, name: str, key: str) -> None:
        """Make a change soon."""
        self._wanted.put((name, key))

    def run(self) -> None:
        """Make them."""
        while (wanted := self._wanted.get()) is not None:
            name, key = wanted
            with suppress(Error):
                self._node.events(name).pulse(key, VALUE, timeout=2)
            self._wanted.task_done()

    def end(self) -> None:
        """Stop."""
        self._wanted.put(None)
        self.join()
        self._node.close()


class Stage:
    """A server, two gateways and some clients, which stay from round to round; each step is one of the methods."""

    def __init__(self, server: RedisServer, start: Callable[[], Process]) -> None:
        self.random = Random()
        self._server = server
        self._start = start
        self._data = Redis(unix_socket_path=str(server.socket))
        self.truth = Truth(self._data, MAPS)
        self.gateways = [start() for _ in range(2)]
        self._ending: list[Process] = []
        self.writer = Writer(server.url)
        self.lines: list[Line] = []

    def close(self) -> None:
        """End all."""
        for line in self.lines:
            line.close()
        self.writer.end()
        self._data.close()
        for gateway in (*self.gateways, *self._ending):
            gateway.end()

    def play(self, seed: int, steps: int = 25) -> tuple[int, int]:
        """Play a schedule; return how many changes were shown, and how often history was lost. Raises `Broken`."""
        self.random = Random(seed)
        for line in self.lines:
            line.close()
        self.lines = [Line(self._client(number)) for number in range(6)]
        for name in self.random.choices(list(_WEIGHTS), list(_WEIGHTS.values()), k=steps):
            getattr(self, name)()
            self._connect_all()
            self._read(0.0)
        self._heal()
        return sum(line.client.shown for line in self.lines), sum(line.client.lost for line in self.lines)

    def _client(self, number: int) -> Client:
        maps = self.random.choice((("m",), ("n",), MAPS))
        narrow = self.random.random() < 0.3
        client = Client(f"client{number}", self.truth, maps, _open if narrow else bool)
        client.narrow = narrow
        if self.random.random() < 0.3:
            client.positions = dict.fromkeys(maps, START)
        return client

    # Clients.

    def fire(self) -> None:
        """Change something."""
        self.writer.pulse(self.random.choice(MAPS), self.random.choice(KEYS))

    def burst(self) -> None:
        """Change more than a client takes that does not read."""
        for _ in range(100):
            self.fire()

    def cut(self) -> None:
        """A client's connection is reset."""
        self.random.choice(self.lines).cut()

    def stop_reading(self) -> None:
        """A client reads no more."""
        self.random.choice(self.lines).reads = False

    def read_again(self) -> None:
        """It reads on."""
        self.random.choice(self.lines).reads = True

    def pass_time(self) -> None:
        """Some time passes."""
        self._read(self.random.choice((0.0, 0.01, 0.05)))

    # Faults.

    def drop(self) -> None:
        """The server closes connections."""
        self._data.client_kill_filter(_type=self.random.choice(("normal", "pubsub")))

    def kill_gateway(self) -> None:
        """A gateway dies."""
        at = self.random.randrange(2)
        self.gateways[at].process.kill()
        self.gateways[at].end()
        self.gateways[at] = self._start()

    def stop_gateway(self) -> None:
        """A gateway is stopped, in order."""
        at = self.random.randrange(2)
        self.gateways[at].process.terminate()
        self._ending.append(self.gateways[at])
        self.gateways[at] = self._start()

    def restart(self) -> None:
        """The server dies, and comes back with its data."""
        self._server.stop()
        self._server.start()

    def flush(self) -> None:
        """The server loses its data."""
        self.truth.flush()

    # Sockets.

    def _connect_all(self) -> None:
        for line in self.lines:
            if line.socket is None:
                if line.client.ended not in (None, "stopping"):
                    raise Broken(f"{line.client.name} was told to end: {line.client.ended}")
                line.connect(self.random.choice(self.gateways).url, lines=self.random.random() < 0.3)

    def _read(self, seconds: float) -> None:
        """Read for so long."""
        end = time.monotonic() + seconds
        while True:
            readers = {line.socket: line for line in self.lines if line.socket is not None and line.reads}
            ready, _, _ = select.select(list(readers), [], [], max(0.0, min(0.05, end - time.monotonic())))
            for one in ready:
                readers[one].receive()
            for line in self.lines:
                if line.client.broken:
                    raise Broken(f"{line.client.name}: {line.client.broken[0]}")
            if time.monotonic() >= end:
                return

    def _heal(self) -> None:
        """Let everybody catch up; all have to."""
        for line in self.lines:
            line.reads = True
        end = time.monotonic() + PATIENCE
        while self.writer.pending or not all(line.client.up_to_date() for line in self.lines):
            if time.monotonic() > end:
                self._check_end()
            self._connect_all()
            self._read(0.05)
        self._check_end()

    def _check_end(self) -> None:
        self.truth.look()
        for line in self.lines:
            line.client.check_end()


def _open(key: str) -> bool:
    return key.startswith("open")
