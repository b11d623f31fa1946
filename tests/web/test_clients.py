"""The clients in examples/http, each over a gateway that is killed and started again between two wakes."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from pathlib import Path
from urllib.request import urlopen

import pytest

import coord.blocking
from cli.processes import RedisServer
from web.client import ALL
from web.conftest import Process

CLIENTS = Path(__file__).parents[2] / "examples" / "http"
_SCRIPT = """
import { wakes } from "%s";
for await (const event of wakes(process.argv[1], process.argv[2])) console.log(JSON.stringify(event.value));
"""
_VALUE = ("sed", "-u", r's/.*"value":\([0-9]*\).*/\1/')


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str | Path]]:
    """Give the words that run the client in each language that is installed."""
    found: dict[str, list[str | Path]] = {"sh": ["sh", CLIENTS / "wakes.sh"]} if shutil.which("curl") else {}
    if shutil.which("node"):
        found["node"] = ["node", "--input-type=module", "-e", _SCRIPT % (CLIENTS / "wakes.mjs").as_uri()]
    if shutil.which("go"):
        folder = tmp_path_factory.mktemp("go")
        subprocess.run(("go", "build", "-o", folder / "wakes", CLIENTS / "wakes.go"), check=True, cwd=folder)
        found["go"] = [folder / "wakes"]
    return found


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Give the settings of a gateway where everybody may do everything."""
    path = tmp_path / "web.toml"
    path.write_text(f"anonymous = {list(ALL)}\n")
    return path


@pytest.fixture
def port() -> int:
    """Give a free port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number: int = free.getsockname()[1]
    return number


def _wait_for(events: coord.blocking.EventMap, nodes: int) -> None:
    end = time.monotonic() + 30
    while events.subscribers(["a key"])["a key"] != nodes:
        assert time.monotonic() < end, f"not {nodes} nodes wait"


def test_no_client_misses_anything(
    words: dict[str, list[str | Path]], shared_server: RedisServer, config: Path, port: int
) -> None:
    """Each is told each wake once: of those that came while the gateway was away, the last."""
    listen = ("--listen", f"127.0.0.1:{port}")
    gateway = Process(shared_server.url, config, *listen)
    clients = {
        language: subprocess.Popen(
            [*program, f"{gateway.url}/v1/maps/clients-{language}", "a key", *(_VALUE if language == "sh" else ())],
            stdout=subprocess.PIPE,
            text=True,
        )
        for language, program in words.items()
    }

    def assert_told(value: int) -> None:
        for language, client in clients.items():
            assert client.stdout is not None
            assert client.stdout.readline() == f"{value}\n", language

    try:
        with coord.blocking.connect(shared_server.url) as node:
            maps = [node.events(f"clients-{language}") for language in clients]
            for events in maps:
                _wait_for(events, 1)
                events.pulse("a key", 1)
            assert_told(1)
            gateway.end()
            for events in maps:
                events.pulse("a key", 2)
                events.fire("a key", 3)
                events.reset("a key")
            gateway = Process(shared_server.url, config, *listen)
            assert_told(3)
            for events in maps:
                _wait_for(events, 1)
                events.pulse("a key", 4)
            assert_told(4)
    finally:
        for client in clients.values():
            client.terminate()
            client.communicate()
        gateway.end()


@pytest.mark.parametrize("language", ["go", "node", "sh"])
def test_a_client_says_what_is_wrong(
    language: str, words: dict[str, list[str | Path]], gateway_process: Process
) -> None:
    """A failed event ends it, and so does a key that is none."""
    if language not in words:
        package = {"go": "golang-go", "node": "nodejs", "sh": "curl"}[language]
        pytest.skip(f"the Debian package {package} is not installed")
    url = f"{gateway_process.url}/v1/maps/bad-{language}"
    urlopen(f"{url}/fail?key=k", b'"no disk"').close()
    for key, expected in (("k", "no disk"), ("\x07", "control characters")):
        ended = subprocess.run([*words[language], url, key, "cat"], capture_output=True, text=True, check=False)
        assert ended.returncode == 1, ended
        assert language == "sh" or expected in ended.stderr
