"""Gateways: one in this process and in memory, and one as a process."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("prometheus_client", reason="prometheus_client is not installed (extra web)")

from cli.conftest import own_server as own_server
from cli.conftest import shared_server as shared_server
from cli.processes import RedisServer
from coord.testing import Cluster
from coord.web.config import Config
from web.client import ALL, Web


@pytest.fixture
def stream_schedules(request: pytest.FixtureRequest) -> int:
    """Return how many schedules streams go through in memory."""
    return int(request.config.getoption("--stream-schedules"))


@pytest.fixture
def stream_rounds(request: pytest.FixtureRequest) -> int:
    """Return how many schedules streams go through in processes."""
    return int(request.config.getoption("--stream-rounds"))


@pytest.fixture
def memory() -> Iterator[Cluster]:
    """Give a cluster in memory, which leaves nothing behind."""
    with Cluster() as cluster:
        yield cluster


@pytest.fixture
def make_web(memory: Cluster) -> Iterator[Callable[..., Web]]:
    """Give a function that makes a gateway in memory, with settings."""
    made: list[Web] = []

    def make(config: Config | None = None, *, name: str = "web1", **options: Any) -> Web:
        made.append(Web(memory, config, name=name, **options))
        return made[-1]

    yield make
    for web in made:
        web.close()


@pytest.fixture
def web(make_web: Callable[..., Web]) -> Web:
    """Give a gateway in memory where everybody may do everything."""
    return make_web()


class Process:
    """A gateway as a process; ``url`` is its address."""

    def __init__(self, server: str, config: Path, *arguments: str, log: bool = False) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("COORD_")}
        environment |= {"COORD_URL": server, "COORD_NODE": "web1"}
        words = [sys.executable, "-m", "coord.cli", "web", "--config", str(config)]
        words += ["--log" if log else "--no-log"]
        words += [] if "--listen" in arguments else ["--listen", "127.0.0.1:0"]
        self.process = subprocess.Popen([*words, *arguments], env=environment, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        line = self.process.stderr.readline()
        found = re.search(r"http://\S+", line)
        assert found, line
        self.url = found[0]

    def end(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.communicate()


@pytest.fixture(scope="module")
def gateway_process(shared_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """Give a gateway as a process, on a real server, where everybody may do everything; one for a file."""
    config = tmp_path_factory.mktemp("web") / "web.toml"
    config.write_text(f"anonymous = {list(ALL)}\n")
    process = Process(shared_server.url, config)
    yield process
    process.end()
