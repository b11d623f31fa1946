"""`coord watch`, as a process."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import termios
from array import array
from collections.abc import Callable
from fcntl import ioctl
from time import monotonic

import pytest

from cli.processes import COORD, PATIENCE, Process, RedisServer, Shell


def test_it_prints_what_is_new(shell: Shell) -> None:
    """By default a watch starts with what is new, and prints a line a change, of keys with the prefix."""
    shell.do("fire", "m", "a/old")
    watching = shell.start("watch", "m", "a/").says("armed: watching map m, caught up at")
    shell.do("fire", "m", "b")
    shell.do("fire", "m", "a/1", '"tab\\there"')
    shell.do("reset", "m", "a/1")
    watching.prints("reset")
    lines = [line.split("\t") for line in watching.end(signal.SIGTERM).out.splitlines()]
    assert [line[:3] for line in lines] == [["a/1", "fired", '"tab\\there"'], ["a/1", "reset", "-"]]
    assert all(len(line) == 6 for line in lines)


def test_it_prints_the_past_and_ends(shell: Shell) -> None:
    """With --since start --no-follow the whole history is printed, and then it ends."""
    for value in ("1", "2"):
        shell.do("pulse", "m", "k", value)
    ended = shell.run("watch", "m", "--since", "start", "--no-follow", "--json")
    records = [json.loads(line) for line in ended.out.splitlines()]
    assert [(it["kind"], it["value"]) for it in records] == [("pulsed", 1), ("pulsed", 2)]
    assert (ended.status, ended.err) == (0, "")
    later = shell.run("watch", "m", "--since", records[0]["revision"], "--no-follow")
    assert [line.split("\t")[2] for line in later.out.splitlines()] == ["2"]
    assert shell.run("watch", "m", "--no-follow") == (0, "", "")


def test_a_listing_tells_from_where_to_go_on(shell: Shell) -> None:
    """The revision that ls says is the one to watch from."""
    shell.do("fire", "m", "before")
    said = re.fullmatch(r"coord: as of (\S+)\n", shell.do("ls", "m").err)
    assert said
    shell.do("fire", "m", "after")
    assert shell.run("watch", "m", "--since", said[1], "--no-follow").out.startswith("after\t")


def test_lost_history_is_4(shell: Shell, shared_server: RedisServer) -> None:
    """Where the history does not reach back that far, or has gone under it, a watch ends with 4."""
    shell.do("fire", "m", "k")
    ended = shell.run("watch", "m", "--since", "5.5", "--no-follow")
    assert ended[:2] == (4, "")
    assert ended.err.count("\n") == 1
    watching = shell.start("watch", "m").says("armed")
    name = f"coord:{{{shell.env['COORD_NAMESPACE']}/m}}"
    shared_server.do("DEL", name, f"{name}:log")
    shell.do("fire", "m", "k")
    assert watching.end().status == 4


def test_it_goes_on_after_a_restart(own_server: Callable[..., RedisServer], shell_at: Callable[[str], Shell]) -> None:
    """A server that restarts with its data costs a watch nothing but a sentence."""
    server = own_server("--appendonly", "yes", "--appendfsync", "always")
    shell = shell_at(server.url)
    watching = shell.start("watch", "m").says("armed")
    shell.do("fire", "m", "a")
    watching.prints("a\tfired")
    server.stop()
    watching.says("waiting for the server")
    server.start()
    watching.says("connected to the server")
    shell.do("fire", "m", "b")
    watching.prints("b\tfired")
    assert watching.end(signal.SIGINT).status == 130


@pytest.mark.own_interpreter
def test_it_ends_with_its_reader(shell: Shell) -> None:
    """In a pipe it ends quietly as soon as the reader has gone, also if nothing more happens."""
    watching = shell.start("watch", "m").says("armed")
    shell.do("fire", "m", "k")
    watching.prints("fired")
    assert watching.popen.stdout is not None
    watching._selector.unregister(watching.popen.stdout)
    watching.popen.stdout.close()
    ended = watching.end()
    assert ended.status == 141
    assert ended.err.count("\n") == 1


def test_head_gets_its_line(shell: Shell) -> None:
    """The textbook pipe, coord watch | head -1, prints a line and is over."""
    shell.do("fire", "m", "k")
    shell.do("fire", "m", "l")
    command = f"{shlex.join(map(str, COORD))} watch m --since start | head -1"
    ended = subprocess.run(["sh", "-c", command], env=shell.env, capture_output=True, text=True, check=True, timeout=30)
    assert ended.stdout.startswith("k\tfired\ttrue\t")
    assert "rror" not in ended.stderr


@pytest.mark.own_interpreter
def test_a_reader_that_does_not_read_stops_no_signal(shell: Shell) -> None:
    """A full pipe holds back the printing, and neither the heartbeat nor the end."""
    watching = shell.start("watch", "m").says("armed")
    for key in ("a", "b"):
        shell.do("fire", "m", key, json.dumps("x" * 60_000))
    _wait_until_full(watching)
    watching.popen.send_signal(signal.SIGTERM)
    assert watching.popen.wait(PATIENCE) == 143


def _wait_until_full(process: Process) -> None:
    """Return when the pipe behind its stdout (16 pages) takes no more; nothing is read from it."""
    assert process.popen.stdout is not None
    deadline = monotonic() + PATIENCE
    waiting = array("i", [0])
    while waiting[0] <= 15 * 4096:
        assert monotonic() < deadline, f"no more than {waiting[0]} bytes came"
        ioctl(process.popen.stdout, termios.FIONREAD, waiting)
