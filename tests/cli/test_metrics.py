"""`--metrics`: what a command that runs long shows to Prometheus."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import pytest

from cli.processes import RedisServer, Shell
from docs.servers import free_port

pytest.importorskip("prometheus_client", reason="prometheus_client is not installed (extra metrics)")

ROOT = Path(__file__).parents[2]


def get(port: int, path: str = "/metrics", **headers: str) -> tuple[str, str]:
    """Return the type and the text of what is there."""
    with urlopen(Request(f"http://127.0.0.1:{port}{path}", headers=headers), timeout=10) as answer:
        return answer.headers["Content-Type"], answer.read().decode()


def test_on_shows_its_metrics(shell: Shell) -> None:
    """As text, or as OpenMetrics if that is asked for; at / it says where; a body is not taken."""
    port = free_port()
    on = shell.start("on", "m", "--metrics", f"127.0.0.1:{port}", "--", "true").says("armed")
    shell.do("fire", "m", "k")
    kind, text = get(port)
    assert kind.startswith("text/plain")
    assert re.search(r'^coord_watches\{namespace="\w+",node="here",server="[^"]+"\} 1.0$', text, re.MULTILINE)
    assert get(port, Accept="application/openmetrics-text; version=1.0.0")[0].startswith("application/openmetrics")
    assert get(port, "/") == ("text/plain; charset=utf-8", "coord: see /metrics\n")
    with pytest.raises(URLError, match="404"):
        get(port, "/favicon.ico")
    with pytest.raises((URLError, ConnectionError)):
        urlopen(Request(f"http://127.0.0.1:{port}/metrics", data=b"x" * 1000), timeout=10)
    with socket.create_connection(("127.0.0.1", port)) as wire:
        wire.sendall(b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 400000000\r\n\r\n")
        wire.settimeout(10)
        # No byte of the body is waited for: hung up in one way or the other.
        with suppress(ConnectionResetError):
            assert wire.recv(1) == b""
    taken = shell.run("hold", "m", "k", "--metrics", f"localhost:{port}")
    assert taken == (69, "", f"coord: --metrics: cannot listen at 127.0.0.1:{port}: Address already in use\n")
    assert on.end(signal.SIGTERM).status == 143


@pytest.mark.parametrize(
    "place", ["9464", ":9464", "host.example:9464", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:70000"]
)
def test_a_place_that_is_none_is_refused(place: str, shell: Shell) -> None:
    """An address and a port, before anything is sent."""
    ended = shell.run("hold", "m", "k", "--metrics", place)
    assert ended.status == 2
    assert "invalid value for '--metrics'" in ended.err


def test_metrics_are_there_without_a_server(
    own_server: Callable[..., RedisServer], shell_at: Callable[[str], Shell]
) -> None:
    """Whoever has no link can be seen to have none."""
    server = own_server()
    server.stop()
    port = free_port()
    watch = shell_at(server.url).start("watch", "m", "--metrics", f"127.0.0.1:{port}").says("waiting for the server")
    assert re.search(r'coord_link_state\{coord_link_state="connected",.*\} 0.0', get(port)[1])
    watch.end(signal.SIGTERM)


def test_prometheus_scrapes_the_nodes_of_the_compose_file() -> None:
    """Its targets are the nodes, at the port where their agent listens, and it is on the host's loopback only."""
    yaml: Any = pytest.importorskip("yaml", reason="PyYAML is not installed (extra docs)")
    cluster = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    (job,) = yaml.safe_load((ROOT / cluster["configs"]["prometheus"]["file"]).read_text())["scrape_configs"]
    (listening,) = re.findall(r"--metrics 0\.0\.0\.0:(\d+)", (ROOT / "compose" / "node").read_text())
    nodes = [name for name in cluster["services"] if name.startswith("node")]
    assert job["static_configs"] == [{"targets": [f"{name}:{listening}" for name in nodes]}]
    prometheus = cluster["services"]["prometheus"]
    assert prometheus["profiles"] == ["metrics"]
    assert all(port.startswith("127.0.0.1:") for port in prometheus["ports"])
    assert {each["source"] for each in prometheus["configs"]} <= cluster["configs"].keys()
    assert yaml.safe_load((ROOT / cluster["configs"]["alerts"]["file"]).read_text())["groups"]


def test_without_the_extra_it_says_what_to_install() -> None:
    """The shell and Python name the extra."""
    script = """if True:
        import sys
        sys.modules["prometheus_client"] = None
        import importlib.util
        find = importlib.util.find_spec
        importlib.util.find_spec = lambda name: None if name == "prometheus_client" else find(name)
        try:
            import coord.metrics
        except ImportError as error:
            print(error)
        from coord.cli._main import status_of
        sys.exit(status_of(["hold", "m", "k", "--metrics", "127.0.0.1:9464"]))
        """
    ended = subprocess.run((sys.executable, "-c", script), capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stdout == "coord.metrics needs prometheus_client: pip install 'coord[metrics]'\n"
    assert "pip install 'coord[metrics]'" in ended.stderr
