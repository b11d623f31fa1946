"""The page on a real gateway and a real server, which are killed and started again."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("prometheus_client", reason="prometheus_client is not installed (extra web)")

from cli.conftest import own_server as own_server
from cli.processes import RedisServer
from web.page.browser import Browser

LIVE = "document.querySelector('header').innerText.includes('live')"
SHOWN = "[...document.querySelectorAll('.changes a.key')].map((each) => each.innerText).reverse()"


class Gateway:
    """A gateway as a process, which is killed and started again at the same port."""

    def __init__(self, server: str, config: Path, namespace: str = "default") -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("COORD_")}
        self._environment = {**environment, "COORD_URL": server, "COORD_NODE": "web1", "COORD_NAMESPACE": namespace}
        self.config = config
        self._port = 0
        self.start()

    def start(self) -> None:
        """Start it."""
        words = [sys.executable, "-m", "coord.cli", "web", "--listen", f"127.0.0.1:{self._port}"]
        words += ["--config", str(self.config)]
        self._process = subprocess.Popen(words, env=self._environment, stderr=subprocess.PIPE, text=True)
        assert self._process.stderr is not None
        line = self._process.stderr.readline()
        found = re.search(r"http://\S+:(\d+)", line)
        assert found, line
        self.url, self._port = f"{found[0]}/", int(found[1])

    def kill(self) -> None:
        """Kill it."""
        self._process.kill()
        self._process.communicate()

    def fire(self, key: str) -> None:
        """Fire a key, as often as it needs to be done."""
        name = {"Idempotency-Key": key, "Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.url}v1/maps/jobs/fire?key={key}", b"true", name, method="POST")
        for attempt in range(20):
            try:
                with urllib.request.urlopen(request, timeout=10) as answer:
                    assert json.load(answer)["record"]["key"] == key
                    return
            except OSError:
                assert attempt < 19


@pytest.fixture
def server(own_server: Callable[..., RedisServer]) -> RedisServer:
    """Give a server that keeps each change."""
    return own_server("--appendonly", "yes", "--appendfsync", "always")


@pytest.fixture
def gateway(server: RedisServer, tmp_path: Path) -> Iterator[Gateway]:
    """Give a gateway where everybody may fire."""
    config = tmp_path / "web.toml"
    config.write_text('anonymous = ["read:*", "fire:*"]\n')
    gateway = Gateway(server.url, config)
    yield gateway
    gateway.kill()


def test_nothing_is_missed_and_nothing_comes_twice(browser: Browser, gateway: Gateway, server: RedisServer) -> None:
    """The gateway is killed while others fire, then the server: the page shows each change once and in order."""
    gateway.fire("key0")
    tab = browser.open(f"{gateway.url}#/stream")
    tab.wait(LIVE)
    gateway.fire("key1")
    tab.wait(f"({SHOWN}).length === 1")
    gateway.kill()
    another = Gateway(server.url, gateway.config)
    for number in range(2, 12):
        another.fire(f"key{number}")
    another.kill()
    gateway.start()
    tab.wait(f"({SHOWN}).length >= 11")
    server.stop()
    server.start()
    gateway.fire("key12")
    tab.wait(f"({SHOWN}).length >= 12")
    assert tab.value(SHOWN) == [f"key{number}" for number in range(1, 13)]
    assert tab.errors == []
    tab.close()
