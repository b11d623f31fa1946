"""The programs in examples/, each on a real server that is killed and started again while somebody waits."""

from __future__ import annotations

import ast
import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent import futures
from contextlib import closing, contextmanager
from inspect import CO_COROUTINE
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

import coord.blocking
from doors.left import nothing_left
from doors.notebook import cells
from doors.servers import Server

_ROOT = Path(__file__).parents[2]
_SECONDS = 30


@pytest.fixture(autouse=True)
def _empty(server: Server) -> None:
    """Forget what the examples before have done: they share a namespace."""
    with coord.blocking.connect(server.url) as c:
        c.execute("FLUSHALL")


def _free_port() -> int:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


@contextmanager
def _running(server: Server, *program: str) -> Iterator[int]:
    """Run a program, which must end well at SIGTERM, without a word on stderr; give its port."""
    port = _free_port()
    words = [sys.executable, *(word.replace("PORT", str(port)) for word in program)]
    environment = {**os.environ, "COORD_URL": server.url, "PORT": str(port)}
    with subprocess.Popen(
        words, env=environment, cwd=_ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            end = time.monotonic() + _SECONDS
            while time.monotonic() < end and process.poll() is None:
                with closing(socket.socket()) as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.02)
            yield port
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                out, err = process.communicate(timeout=_SECONDS)
            finally:
                process.kill()
            sys.stderr.write(err)
    assert (process.returncode, err) == (0, "")
    assert out in ("", "clean\n")


def _ask(port: int, path: str, method: str = "GET") -> Any:
    with urlopen(Request(f"http://127.0.0.1:{port}{path}", method=method), timeout=_SECONDS) as answer:
        return json.load(answer)


@pytest.mark.parametrize("name", ["fastapi", "flask"])
def test_services(server: Server, name: str) -> None:
    """A request waits over a restart, one that is made meanwhile is answered, and locks have rising tokens."""
    pytest.importorskip(name)
    with futures.ThreadPoolExecutor() as pool, _running(server, "tests/doors/run_example.py", name, "PORT") as port:
        waiting = pool.submit(_ask, port, "/mounted/abc")
        with pytest.raises(HTTPError, match="408"):
            _ask(port, "/mounted/never?seconds=0.1")
        server.kill()
        mounting = pool.submit(_ask, port, "/mounted/abc?path=/mnt", "POST")
        server.start()
        assert mounting.result(_SECONDS) is True
        assert waiting.result(_SECONDS) == {"at": "/mnt"}
        assert _ask(port, "/mounted/abc?path=/mnt", "POST") is False
        tokens = list(pool.map(lambda _: _ask(port, "/reports", "POST"), range(3)))
        assert len({*tokens}) == 3


def test_aiohttp_worker(server: Server) -> None:
    """What is mounted before, during and after a restart is worked on once, and acknowledged."""
    pytest.importorskip("aiohttp")
    with coord.blocking.connect(server.url) as c:
        on_mount = c.events("mount")
        on_mount.fire("early")
        with (
            futures.ThreadPoolExecutor() as pool,
            _running(server, "tests/doors/run_example.py", "aiohttp", "PORT") as port,
        ):
            server.kill()
            late = pool.submit(on_mount.fire, "late")
            server.start()
            record = late.result(_SECONDS).record
            assert record is not None
            assert on_mount.acked(record, 1, timeout=_SECONDS).names
            done = _ask(port, "/done")
            assert done[-1] == "late"
            assert done.count("early") == 1


def test_prefork(server: Server) -> None:
    """Each worker has a node of its own; a wait lasts over a restart."""
    with futures.ThreadPoolExecutor() as pool, _running(server, "-W", "ignore", "examples/prefork.py") as port:

        def ask(disk: str) -> list[str]:
            with socket.create_connection(("127.0.0.1", port), timeout=_SECONDS) as connection:
                connection.sendall(f"{disk}\n".encode())
                return connection.makefile().readline().split(maxsplit=1)

        assert ask("root")[1] == "/\n"
        waiting = [pool.submit(ask, "forked") for _ in range(4)]
        server.kill()
        server.start()
        with coord.blocking.connect(server.url) as c:
            c.events("mount").fire("forked", 7)
        assert {each.result(_SECONDS)[1] for each in waiting} == {"7\n"}


def test_notebook(server: Server) -> None:
    """Its cells, run as IPython runs them, with a restart in between."""
    first, *sources = cells()
    assert "COORD_URL" in first
    names: dict[str, Any] = {"COORD_URL": server.url}

    async def run_all() -> None:
        for number, source in enumerate(sources):
            code = compile(source, "cell", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            running = eval(code, names)
            if code.co_flags & CO_COROUTINE:
                await running
            if number == 1:
                server.kill()
                server.start()
        assert names["where"] == {"at": "/mnt/abc"}

    with nothing_left():
        asyncio.run(run_all())
