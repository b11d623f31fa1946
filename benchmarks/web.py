"""Requests a second of the web gateway: ``python benchmarks/web.py [--rounds 3] [--seconds 3] [--json FILE]``.

In each round the subjects take turns: ``coord web``, and a bare site of twisted.web (``web_bare.py``) whose answer has
the same size, so that the difference is what coord does. 16 connections of this process ask, each again as soon as it
has its answer. Measured are the requests a second, and the time of the serving process' processor for one: on a machine
that does other work too, only that stands still. The ratios are those of one round.
"""

from __future__ import annotations

import argparse
import selectors
import socket
import tempfile
import time
from pathlib import Path

import report
from servers import server
from streams import Gateway

CONNECTIONS = 16
VALUE = b'{"disk":7,"at":"/mnt/abc"}'


def request(method: str, target: str, body: bytes = b"", headers: str = "") -> bytes:
    """Return the bytes of a request."""
    length = f"Content-Length: {len(body)}\r\n" if body else ""
    return f"{method} {target} HTTP/1.1\r\nHost: localhost\r\n{length}{headers}\r\n".encode() + body


class Coord(Gateway):
    """``coord web``, without a log and without a limit of the rate."""

    def __init__(self, redis: str, folder: Path) -> None:
        config = folder / "web.toml"
        config.write_text('anonymous = ["read:*", "write:*"]\n[limits]\nrate = 1000000\nburst = 1000000\n')
        words = ["-m", "coord.cli", "web", "--no-log", "--listen", "127.0.0.1:PORT", "--config", str(config)]
        super().__init__(redis, words, {"COORD_URL": redis, "COORD_NODE": "web1"})


class Bare(Gateway):
    """The same answer from a bare site."""

    def __init__(self, redis: str, folder: Path) -> None:
        del folder
        super().__init__(redis, ["web_bare.py", "PORT"], {})


class Asking:
    """Connections that ask the same again and again; ``answers`` counts."""

    def __init__(self, port: int, what: bytes) -> None:
        self._what = what
        self._selector = selectors.DefaultSelector()
        self._parts: dict[socket.socket, bytes] = {}
        self.answers = 0
        for _ in range(CONNECTIONS):
            one = socket.create_connection(("127.0.0.1", port))
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._selector.register(one, selectors.EVENT_READ)
            self._parts[one] = b""
            one.sendall(what)

    def ask(self, seconds: float) -> float:
        """Ask for so long; return how long it was."""
        began = time.monotonic()
        while (now := time.monotonic()) < began + seconds:
            for key, _ in self._selector.select(0.1):
                self._take(key.fileobj)  # type: ignore[arg-type]
        return now - began

    def _take(self, one: socket.socket) -> None:
        data = self._parts[one] + one.recv(65_536)
        head, end, body = data.partition(b"\r\n\r\n")
        if not end or len(body) < int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]):
            self._parts[one] = data
            return
        if not head.startswith(b"HTTP/1.1 200"):
            raise ConnectionError(head.decode())
        self._parts[one] = b""
        self.answers += 1
        one.sendall(self._what)

    def close(self) -> None:
        """Hang up."""
        for one in self._parts:
            one.close()


def measure(gateway: Gateway, what: bytes, seconds: float) -> tuple[float, float]:
    """Return the requests a second, and the microseconds of the serving process for one."""
    asking = Asking(gateway.port, what)
    asking.ask(seconds / 4)
    before, counted = gateway.cpu(), asking.answers
    took = asking.ask(seconds)
    answers = asking.answers - counted
    cpu = gateway.cpu() - before
    asking.close()
    return answers / took, 1e6 * cpu / answers


def measure_round(figures: report.Figures, seconds: float) -> None:
    """Measure each request of each subject once."""
    with server("redis") as redis, tempfile.TemporaryDirectory() as folder:
        bare, coord = Bare(redis, Path(folder)), Coord(redis, Path(folder))
        try:
            asked = {
                "bare twisted.web, GET": (bare, request("GET", "/")),
                "coord web, GET record": (coord, request("GET", "/v1/maps/m/record?key=/mnt/abc")),
                "coord web, GET wait, latched": (coord, request("GET", "/v1/maps/m/wait?key=/mnt/abc")),
                "coord web, POST pulse": (coord, request("POST", "/v1/maps/m/pulse?key=k", VALUE)),
            }
            for name, (gateway, what) in asked.items():
                if name.endswith("record"):
                    # Once, so that there is something to read.
                    measure(coord, request("POST", "/v1/maps/m/fire?key=/mnt/abc", VALUE), 0.1)
                rate, cpu = measure(gateway, what, seconds)
                report.add(figures, "requests/s", name, rate)
                report.add(figures, "us of CPU a request", name, cpu)
        finally:
            bare.close()
            coord.close()


def main() -> None:
    """Measure, and print a table."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--seconds", type=float, default=3.0)
    options.add_argument("--json", type=Path)
    given = options.parse_args()
    figures: report.Figures = {}
    for _ in range(given.rounds):
        measure_round(figures, given.seconds)
    for figure, values in figures.items():
        print(figure, {name: [round(value) for value in each] for name, each in values.items()})
    bare, ours = (figures["requests/s"][name] for name in ("bare twisted.web, GET", "coord web, GET record"))
    print("GET record beside bare twisted.web", [round(our / their, 2) for our, their in zip(ours, bare, strict=True)])
    if given.json:
        report.write(given.json, figures)


if __name__ == "__main__":
    main()
