"""`coord web` as a process: its settings, sockets, signals and log."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("prometheus_client", reason="prometheus_client is not installed (extra web)")

from cli.processes import COORD, PATIENCE, Process, RedisServer, Shell
from coord.cli._activation import inherited
from coord.web.tokens import digest_of, make_token

SECRET = make_token()
TOKEN = f'[[token]]\nname = "ci"\nsha256 = "{digest_of(SECRET)}"\nrights = ["read:*", "write:*"]\n'
OPEN = 'anonymous = ["read:*", "write:*"]\n'


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    """Give the path of the settings, where anonymous may read and write."""
    path = tmp_path / "web.toml"
    path.write_text(OPEN)
    return path


def serve(shell: Shell, settings: Path, *words: str, **more: str) -> tuple[Process, int]:
    """Start a gateway; return it and its port."""
    more["XDG_STATE_HOME"] = str(settings.parent)
    started = shell.start("web", "--config", str(settings), "--listen", "127.0.0.1:0", *words, more=more)
    started.says("serving http://127.0.0.1:")
    while (found := re.search(rb"serving http://127.0.0.1:(\d+)\D", started.err)) is None:
        started.says("\n")
    return started, int(found[1])


def ask(port: int | str, method: str, target: str, body: str | None = None, **headers: str) -> tuple[int, bytes]:
    """Return status and body of an answer; a port that is a path is a unix socket."""
    connection = http.client.HTTPConnection("127.0.0.1", port if isinstance(port, int) else 80, timeout=PATIENCE)
    if isinstance(port, str):
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(port)
    try:
        connection.request(method, target, body, {name.replace("_", "-"): text for name, text in headers.items()})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_a_gateway_serves_and_ends_in_order(shell: Shell, settings: Path) -> None:
    """It waits and fires for its clients; SIGTERM answers who waits, and is no failure."""
    gateway, port = serve(shell, settings)
    assert ask(port, "POST", "/v1/maps/m/fire?key=a", "7")[0] == 200
    assert shell.do("get", "m", "a").out.split()[:3] == ["a", "fired", "7"]
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as waiting:
        waiting.sendall(b"GET /v1/maps/m/wait?key=b HTTP/1.1\r\nHost: localhost\r\n\r\n")
        while not json.loads(ask(port, "GET", "/v1/maps/m/subscribers?key=b")[1])["subscribers"]["b"]:
            pass
        gateway.popen.send_signal(signal.SIGTERM)
        answer = b""
        while data := waiting.recv(4096):
            answer += data
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"Connection: close" in answer
    ended = gateway.end()
    assert ended.status == 0
    assert "route=/v1/maps/{map}/wait map=m status=503" in ended.err


def test_a_second_signal_ends_it_at_once(
    own_server: Callable[..., RedisServer], shell_at: Callable[[str], Shell], settings: Path
) -> None:
    """While a call hangs, the first one waits for it, and the second one does not."""
    settings.write_text(OPEN + "limits = { grace = 300 }\n")
    server = own_server()
    gateway, port = serve(shell_at(server.url), settings)
    assert ask(port, "GET", "/v1/maps/m/record?key=a")[0] == 200
    server.hang()
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as calling:
        calling.sendall(b"POST /v1/maps/m/fire?key=a HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert json.loads(ask(port, "GET", "/readyz")[1])["status"] == "ok"
        gateway.popen.send_signal(signal.SIGTERM)
        while True:
            try:
                ask(port, "GET", "/healthz")
            except OSError:
                break  # it listens no more
        gateway.popen.send_signal(signal.SIGTERM)
        assert gateway.end().status in (0, 143)


def test_settings_are_read_again(shell: Shell, settings: Path) -> None:
    """SIGHUP takes other settings; a broken file changes nothing, and says so."""
    gateway, port = serve(shell, settings)
    assert ask(port, "POST", "/v1/maps/m/fire?key=a")[0] == 200
    settings.write_text(TOKEN)
    gateway.popen.send_signal(signal.SIGHUP)
    gateway.says("read again")
    assert ask(port, "POST", "/v1/maps/m/fire?key=a")[0] == 401
    assert ask(port, "POST", "/v1/maps/m/fire?key=a", Authorization=f"Bearer {SECRET}")[0] == 200
    assert (settings.parent / "coord" / "web.key").stat().st_mode & 0o777 == 0o600
    settings.write_text(TOKEN + "nonsense = 1")
    gateway.popen.send_signal(signal.SIGHUP)
    gateway.says("stay as they were")
    assert ask(port, "POST", "/v1/maps/m/fire?key=a", Authorization=f"Bearer {SECRET}")[0] == 200
    ended = gateway.end(signal.SIGTERM)
    assert ended.status == 0
    assert SECRET not in ended.err


def test_settings_that_would_open_it_to_others_are_not_taken(shell: Shell, settings: Path) -> None:
    """What is refused at the start is refused at a reload; and it has as many descriptors as it may have."""
    settings.write_text("plain = true\n" + TOKEN)
    words = ("web", "--config", str(settings), "--listen", "0.0.0.0:0")
    gateway = shell.start(*words, more={"XDG_STATE_HOME": str(settings.parent)}).says("serving http://0.0.0.0:")
    settings.write_text(OPEN)
    gateway.popen.send_signal(signal.SIGHUP)
    gateway.says("there must be tokens")
    limits = Path(f"/proc/{gateway.popen.pid}/limits").read_text()
    (soft, hard), *_ = re.findall(r"Max open files +(\d+) +(\d+)", limits)
    assert int(soft) == min(65_536, int(hard))
    assert gateway.end(signal.SIGTERM).status == 0


def test_a_unix_socket_is_its_owners(shell: Shell, settings: Path) -> None:
    """It has mode 0600, and who opens it may write; one that is left behind is replaced."""
    settings.write_text("")
    path = settings.parent / "web.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    gateway, port = serve(shell, settings, "--listen", f"unix:{path}")
    assert path.stat().st_mode & 0o777 == 0o600
    assert ask(str(path), "POST", "/v1/maps/m/fire?key=a")[0] == 200
    assert ask(port, "POST", "/v1/maps/m/fire?key=a")[0] == 401
    assert ask(port, "GET", "/v1/maps/m/record?key=a")[0] == 200
    second = shell.run("web", "--config", str(settings), "--listen", f"unix:{path}")
    assert second.status == 69
    assert second.err == f"coord: cannot listen at unix:{path}: Address already in use\n"
    assert gateway.end(signal.SIGTERM).status == 0
    assert not path.exists()


_ACTIVATE = """if True:
    import os, socket, sys
    listening = socket.create_server((sys.argv[1], 0))
    print(listening.getsockname()[1], flush=True)
    if listening.fileno() != 3:
        os.dup2(listening.fileno(), 3)
    os.set_inheritable(3, True)
    os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
    os.execv(sys.argv[2], sys.argv[2:])
"""


@pytest.mark.parametrize(("address", "status"), [("127.0.0.1", 0), ("0.0.0.0", 2)])
def test_it_listens_where_systemd_does(shell: Shell, settings: Path, address: str, status: int) -> None:
    """An inherited socket is used instead of the settings', and judged by the address that it has."""
    words = [sys.executable, "-c", _ACTIVATE, address, *COORD, "web", "--config", str(settings)]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(words, env=shell.env, **streams) as gateway:  # type: ignore[call-overload]
        port = int(gateway.stdout.readline())
        said = gateway.stderr.readline()
        if status:
            assert "open to other machines" in said
        else:
            assert said == f"coord: armed: serving http://127.0.0.1:{port}\n"
            assert ask(port, "GET", "/healthz")[0] == 200
            gateway.terminate()
        gateway.communicate()
        assert gateway.returncode == status


@pytest.mark.parametrize(
    ("text", "words", "status"),
    [
        ("", ("--listen", "0.0.0.0:0"), "there must be tokens"),
        (TOKEN, ("--listen", "0.0.0.0:0"), "in plain text"),
        ('listen = ["nowhere"]', (), "is not an IP address and a port"),
        ("listen = 1", (), "listen: a list is needed, not a number"),
    ],
)
def test_what_would_not_be_safe_does_not_start(
    shell: Shell, settings: Path, text: str, words: tuple[str, ...], status: str
) -> None:
    """One line says why, and what to do."""
    settings.write_text(text)
    ended = shell.run("web", "--config", str(settings), *words)
    assert (ended.status, ended.err.count("\n")) == (2, 1)
    assert status in ended.err


def test_a_port_that_is_taken(shell: Shell, settings: Path) -> None:
    """Another process has it: one line, and the status of what cannot be had."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = shell.run("web", "--config", str(settings), "--listen", f"127.0.0.1:{port}")
    assert ended.status == 69
    assert ended.err == f"coord: cannot listen at 127.0.0.1:{port}: Address already in use\n"


def test_a_token_is_printed_once(shell: Shell, settings: Path) -> None:
    """Its lines for web.toml can be pasted, and know its digest alone."""
    ended = shell.run("web", "token", "ci", "--right", "read:*", "--right", "fire:deploy/build-*")
    token, _, lines = ended.out.partition("\n")
    assert ended.status == 0
    assert token.startswith("coord_")
    assert token not in lines
    settings.write_text(lines)
    gateway, port = serve(shell, settings)
    me = json.loads(ask(port, "GET", "/v1/me", Authorization=f"Bearer {token}")[1])
    assert (me["name"], me["rights"]) == ("ci", ["read:*", "fire:deploy/build-*"])
    gateway.end(signal.SIGTERM)
    assert shell.run("web", "token", "c i").status == 2
    assert shell.run("web", "token", "ci", "--right", "reed:*").status == 2


def test_a_service_manager_is_told(shell: Shell, settings: Path) -> None:
    """READY when it listens, also after a reload; WATCHDOG while it turns; STOPPING at the end."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        path = str(settings.parent / "notify")
        manager.bind(path)
        manager.settimeout(PATIENCE)

        def hears(word: str) -> list[str]:
            while True:
                lines = manager.recv(4096).decode().split("\n")
                if word in lines:
                    return lines

        gateway, port = serve(shell, settings, NOTIFY_SOCKET=path, WATCHDOG_USEC="400000")
        assert hears("READY=1") == ["READY=1", f"STATUS=serving http://127.0.0.1:{port}"]
        hears("WATCHDOG=1")
        gateway.popen.send_signal(signal.SIGHUP)
        assert hears("RELOADING=1")[1].startswith("MONOTONIC_USEC=")
        hears("READY=1")
        gateway.popen.send_signal(signal.SIGTERM)
        hears("STOPPING=1")
        assert gateway.end().status == 0


def test_without_a_server_it_is_not_ready(shell_at: Callable[[str], Shell], settings: Path) -> None:
    """It listens, lives and says what is wrong; calls are refused as not applied."""
    gateway, port = serve(shell_at(f"unix://{settings.parent}/none"), settings)
    assert ask(port, "GET", "/healthz")[0] == 200
    status, body = ask(port, "GET", "/readyz")
    assert (status, json.loads(body)["status"]) == (503, "connecting")
    assert gateway.end(signal.SIGTERM).status == 0


def test_logs_can_be_left_out(shell: Shell, settings: Path) -> None:
    """--no-log writes no line for a request."""
    gateway, port = serve(shell, settings, "--no-log")
    assert ask(port, "GET", "/v1/me")[0] == 200
    ended = gateway.end(signal.SIGTERM)
    assert ended.err.count("\n") == 1


def test_no_environment_of_activation_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """The numbers of inherited sockets are for this process alone."""
    for pid, expected in (("1", []), (str(os.getpid()), [3, 4])):
        for name, text in (("PID", pid), ("FDS", "2"), ("FDNAMES", "a:b")):
            monkeypatch.setenv(f"LISTEN_{name}", text)
        assert inherited() == expected
        assert not {"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} & os.environ.keys()


def test_a_server_that_is_not_there_is_reported(shell_at: Callable[[str], Shell], settings: Path) -> None:
    """A gateway that does not reach its server listens all the same, and says on stderr what it waits for."""
    gateway, port = serve(shell_at("redis://127.0.0.1:1"), settings)
    gateway.says("waiting for the server at redis://127.0.0.1:1 (")
    assert ask(port, "GET", "/readyz")[0] == 503
