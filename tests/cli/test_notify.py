"""What a service manager is told: over a socket of the test's own, as systemd's is."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from twisted.internet.task import Clock

from cli.processes import PATIENCE, RedisServer, Shell
from coord.cli import _notify
from coord.cli._notify import Supervisor


class Manager:
    """A service manager that listens."""

    def __init__(self, address: str) -> None:
        self.more = {"NOTIFY_SOCKET": address}
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(f"\0{address[1:]}" if address[0] == "@" else address)
        self._socket.settimeout(PATIENCE)

    def hears(self, word: str) -> list[str]:
        """Wait for a message with this line; return its lines."""
        while True:
            lines = self._socket.recv(4096).decode().split("\n")
            if word in lines or any(line.startswith(f"{word}=") for line in lines):
                return lines

    def all(self) -> list[str]:
        """Return the messages that are here now."""
        self._socket.setblocking(False)
        messages = []
        while True:
            try:
                messages.append(self._socket.recv(4096).decode())
            except BlockingIOError:
                return messages

    def close(self) -> None:
        """Listen no more."""
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    """Give a service manager at either kind of address."""
    manager = Manager(str(tmp_path / "notify") if request.param == "path" else f"@coord-test-{tmp_path}"[:100])
    yield manager
    manager.close()


def test_on_says_what_it_does_from_start_to_end(shell: Shell, manager: Manager) -> None:
    """READY once it watches, WATCHDOG again and again, STOPPING at SIGTERM; its command is told of no manager."""
    more = {**manager.more, "WATCHDOG_USEC": "400000"}
    command = ("sh", "-c", 'echo "[$NOTIFY_SOCKET$WATCHDOG_USEC] $COORD_KEY"')
    on = shell.start("on", "m", "--", *command, more=more).says("armed")
    assert manager.hears("READY=1") == ["READY=1", "STATUS=watching map m"]
    manager.hears("WATCHDOG=1")
    manager.hears("WATCHDOG=1")
    shell.do("fire", "m", "k")
    on.prints("[] k\n")
    on.popen.send_signal(signal.SIGTERM)
    manager.hears("STOPPING=1")
    assert on.end().status == 143


@pytest.mark.parametrize("manager", ["path"], indirect=True)
@pytest.mark.parametrize(
    ("words", "status"),
    [
        (("hold", "m", "k"), "STATUS=holding k of map m"),
        (("watch", "m"), "STATUS=watching map m"),
        (("members", "--watch"), "STATUS=watching the members"),
        (("lock", "m", "k", "--", "sleep", "60"), "STATUS=locked k of map m"),
        (("elect", "m", "k", "--", "sleep", "60"), "STATUS=leading k of map m"),
        (("barrier", "m", "k", "1", "--", "sleep", "60"), "STATUS=inside the barrier k of map m"),
        (("mounts", "--only", "/none"), "STATUS=announcing the mounts of here in map mount"),
        (("systemd", "hold", "m/a/b"), "STATUS=holding a/b of map m"),
    ],
    ids=" ".join,
)
def test_whatever_runs_long_says_when_it_is_ready(
    words: tuple[str, ...], status: str, shell: Shell, manager: Manager
) -> None:
    """Each of these commands is ready when it does what it is for."""
    running = shell.start(*words, more=manager.more)
    while manager.hears("READY=1") != ["READY=1", status]:
        pass
    running.end(signal.SIGTERM)


@pytest.mark.parametrize("manager", ["path"], indirect=True)
def test_who_does_not_lead_has_started_too(shell: Shell, manager: Manager) -> None:
    """A unit that stands for election is active on every host."""
    shell.start("elect", "m", "k", "--", "sleep", "60").says("leading")
    shell.start("elect", "m", "k", "--", "sleep", "60", more=manager.more)
    assert manager.hears("READY=1") == ["READY=1", "STATUS=standing for election as k of map m"]


@pytest.mark.parametrize("manager", ["path"], indirect=True)
def test_wait_leaves_ready_to_its_command(shell: Shell, manager: Manager) -> None:
    """It shows what it waits for; the program that it becomes has the socket, and is ready when it says so."""
    wait = shell.start("wait", "m", "k", "--", "sh", "-c", 'echo "$NOTIFY_SOCKET"', more=manager.more).says("armed")
    assert manager.hears("STATUS=waiting for k of map m") == ["STATUS=waiting for k of map m"]
    shell.do("fire", "m", "k")
    assert wait.end().out == f"true\n{manager.more['NOTIFY_SOCKET']}\n"
    assert "READY=1" not in manager.all()


@pytest.mark.parametrize("manager", ["path"], indirect=True)
def test_a_lost_link_is_shown(
    own_server: Callable[..., RedisServer], shell_at: Callable[[str], Shell], manager: Manager
) -> None:
    """`systemctl status` shows that there is no server, and that there is one again."""
    server = own_server()
    watch = shell_at(server.url).start("watch", "m", more=manager.more).says("armed")
    manager.hears("READY=1")
    server.stop()
    (status,) = manager.hears("STATUS")
    assert status.startswith("STATUS=watching map m; no server: ")
    server.start()
    assert manager.hears("STATUS") == ["STATUS=watching map m"]
    watch.end(signal.SIGTERM)


def test_a_reactor_that_does_not_turn_is_noticed(manager: Manager, monkeypatch: pytest.MonkeyPatch) -> None:
    """The watchdog hears from the reactor's own timers, twice in its interval, and from nothing else."""
    for name, value in {**manager.more, "WATCHDOG_USEC": "20000000", "WATCHDOG_PID": str(os.getpid())}.items():
        monkeypatch.setenv(name, value)
    clock = Clock()
    _notify.begin_watchdog(clock)
    assert manager.all() == ["WATCHDOG=1"]
    for _ in range(3):
        clock.advance(10)
        assert manager.all() == ["WATCHDOG=1"]
    # A turn that took a minute is not made up for.
    clock.advance(60)
    assert manager.all() == ["WATCHDOG=1"]


@pytest.mark.parametrize("more", [{"WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "soon"}, {"WATCHDOG_USEC": ""}])
def test_another_process_watchdog_is_left_alone(more: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What is meant for another process, or cannot be read, starts no timer."""
    for name, value in {"WATCHDOG_USEC": "20000000", **more}.items():
        monkeypatch.setenv(name, value)
    clock = Clock()
    _notify.begin_watchdog(clock)
    assert clock.getDelayedCalls() == []


@pytest.mark.parametrize("address", ["", "@", "/nowhere/at/all", "vsock:2:1", "relative", f"/{'long' * 100}"])
def test_a_manager_that_cannot_be_reached_is_no_error(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that is wrong with the socket reaches the command."""
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    _notify.tell("READY=1")


@pytest.mark.parametrize("manager", ["path"], indirect=True)
def test_a_status_is_one_line_without_a_password(manager: Manager, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is said of a key or a server cannot forge another line, and shows no secret."""
    monkeypatch.setenv("NOTIFY_SOCKET", manager.more["NOTIFY_SOCKET"])
    Supervisor("").doing("a\nREADY=1 at redis://:secret@host")
    assert manager.all() == ["STATUS=a READY=1 at redis://host"]
