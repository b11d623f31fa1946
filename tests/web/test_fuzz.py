"""Whatever is sent, no answer is a fault of the gateway's, and it goes on."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from twisted.logger import LogEvent, LogLevel, globalLogPublisher

from cli.processes import RedisServer
from coord.web.config import Config, Limits
from coord.web.table import TABLE
from web.client import ALL, Web
from web.conftest import Process
from web.fuzzing import Fuzz

FREE = Limits(rate=10**9, burst=10**9)
_STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")


def faults(request: bytes, written: bytes) -> list[bytes]:
    """Return the answers to a request that are faults: a call may want replicas that are not there, and say so."""
    codes = [code for code in _STATUS.findall(written) if code >= b"500"]
    return [code for code in codes if not (code == b"504" and b"replicas=" in request)]


def test_no_request_makes_a_fault(make_web: Callable[..., Web], request: pytest.FixtureRequest) -> None:
    """Requests that are strange, wrong or damaged are answered or dropped; a good one after them is answered."""
    web = make_web(Config(anonymous=ALL, limits=FREE))
    fuzz = Fuzz(1, TABLE)
    logged: list[LogEvent] = []
    globalLogPublisher.addObserver(logged.append)  # type: ignore[arg-type]
    for _ in range(request.config.getoption("--fuzz-requests")):
        data = fuzz.request()
        connection = web.connection()
        connection.send(data)
        assert not faults(data, connection.written), (data, connection.written)
        connection.hang_up()
        web._connections.pop()
    globalLogPublisher.removeObserver(logged.append)  # type: ignore[arg-type]
    assert not [event for event in logged if event.get("log_level", LogLevel.info) >= LogLevel.warn]
    assert web.get("/v1/me").status == 200
    web.cluster.advance(60)
    assert not web.gateway.exchanges
    assert web.gateway.limits.connections.taken == 0


def test_no_request_over_a_socket_makes_a_fault(
    shared_server: RedisServer, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """The same to a process, with bytes as the kernel cuts them."""
    settings = tmp_path / "web.toml"
    settings.write_text(f"anonymous = {list(ALL)}\nlimits = {{ rate = 1000000, burst = 1000000 }}\n")
    gateway = Process(shared_server.url, settings)
    port = int(gateway.url.rpartition(":")[2])
    fuzz = Fuzz(2, TABLE)
    try:
        for _ in range(request.config.getoption("--fuzz-requests") // 3):
            data = fuzz.request()
            assert not faults(data, sent(port, data)), data
        assert b"HTTP/1.1 200 " in sent(port, b"GET /v1/me HTTP/1.1\r\nHost: localhost\r\n\r\n")
    finally:
        gateway.end()


def sent(port: int, data: bytes) -> bytes:
    """Return the first answer, or what comes within a moment: half a request gets none."""
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.settimeout(0.05)
        written = b""
        try:
            connection.sendall(data)
            while not _whole(written) and (chunk := connection.recv(1 << 16)):
                written += chunk
        except (TimeoutError, ConnectionError):
            pass
        return written


def _whole(written: bytes) -> bool:
    head, end, body = written.partition(b"\r\n\r\n")
    if not end:
        return False
    if length := re.search(rb"Content-Length: (\d+)", head):
        return len(body) >= int(length[1])
    return body.endswith(b"0\r\n\r\n") or b" 204 " in head or b" 304 " in head
