"""Outputs that are not read: nothing stops for them, and a signal ends the command."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from cli.processes import PATIENCE, Process, RedisServer, Shell
from coord.cli._stderr import Writer


class Unread:
    """A pipe or a terminal that takes nothing more, until it is read."""

    def __init__(self, kind: str) -> None:
        self.ours, self.theirs = os.pipe() if kind == "pipe" else pty.openpty()
        os.set_blocking(self.theirs, False)
        # Not until it polls as full: a pipe does so with its last page begun, and a short write still goes there.
        with suppress(BlockingIOError):
            while True:
                os.write(self.theirs, b"." * 512)
        # What is shared is as the command is to find it.
        os.set_blocking(self.theirs, True)

    def read(self, words: str) -> str:
        """Read until it holds ``words``; return all but what it was filled with."""
        deadline = time.monotonic() + PATIENCE
        data = ""
        while words not in data:
            assert select.select([self.ours], [], [], max(0, deadline - time.monotonic()))[0], data
            data = (data + os.read(self.ours, 1 << 16).decode()).replace("\r\n", "\n")
        return data.lstrip(".")

    def close(self) -> None:
        """Let go of both ends."""
        os.close(self.ours)
        os.close(self.theirs)


@pytest.fixture(params=["pipe", "terminal"])
def unread(request: pytest.FixtureRequest) -> Iterator[Unread]:
    """Give an output that is full."""
    output = Unread(request.param)
    yield output
    output.close()


def _armed(shell: Shell, key: str = "k") -> None:
    """Wait until a node is subscribed to a key: what is not read cannot say so."""
    deadline = time.monotonic() + PATIENCE
    while not _subscribers(shell, key):
        assert time.monotonic() < deadline


def _subscribers(shell: Shell, key: str) -> int:
    assert shell.typist is not None
    return int(json.loads(shell.typist.type(("get", "--json", "m", key), shell.env).out)["subscribers"])


# Standard error


def test_the_value_comes_though_stderr_is_not_read(shell: Shell, unread: Unread) -> None:
    """A waiter whose talk is stuck is woken, and prints the value; a late one prints it at once."""
    waiting = shell.start("wait", "m", "k", stderr=unread.theirs)
    _armed(shell)
    shell.do("fire", "m", "k", "7")
    assert waiting.prints("7\n").end().status == 0
    assert shell.start("wait", "m", "k", stderr=unread.theirs).end().status == 0


@pytest.mark.own_interpreter
@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_it_though_stderr_is_not_read(shell: Shell, unread: Unread, signum: int, code: int) -> None:
    """SIGTERM and Ctrl-C end a waiter whose talk is stuck."""
    waiting = shell.start("wait", "m", "k", stderr=unread.theirs)
    _armed(shell)
    assert waiting.end(signum).status == code


def test_an_error_ends_it_though_stderr_is_not_read(shell: Shell, unread: Unread) -> None:
    """What goes wrong has its exit code, though the sentence is lost."""
    assert shell.start("wait", "m", "k", "--timeout", "0", stderr=unread.theirs).end().status == 124
    assert shell.start("fire", "m", "k", "--tiemout", "0", stderr=unread.theirs).end().status == 2


def test_what_was_said_comes_when_it_is_read_again(shell: Shell, unread: Unread) -> None:
    """Talk that was stuck is not lost while there is room for it."""
    waiting = shell.start("wait", "m", "k", stderr=unread.theirs)
    _armed(shell)
    assert unread.read("armed: waiting for k of map m\n").endswith("coord: armed: waiting for k of map m\n")
    assert waiting.end(signal.SIGTERM).status == 143


def test_the_command_runs_though_stderr_is_not_read(shell: Shell, unread: Unread) -> None:
    """With talk that is stuck `wait` becomes CMD, and `on` runs it."""
    waiting = shell.start("wait", "m", "k", "--", "echo", "ran", stderr=unread.theirs)
    _armed(shell)
    shell.do("fire", "m", "k")
    assert waiting.end()[:2] == (0, "true\nran\n")
    on = shell.start("on", "m", "--since", "start", "--", "sh", "-c", "echo ran; exit 9", stderr=unread.theirs)
    assert on.end()[:2] == (9, "ran\n")


def test_both_outputs_on_one_pipe(shell: Shell, unread: Unread) -> None:
    """2>&1 into something that is not read: a signal ends it; read again, all of it comes."""
    waiting = shell.start("wait", "m", "k", stdout=unread.theirs, stderr=unread.theirs)
    _armed(shell)
    assert waiting.end(signal.SIGTERM).status == 143
    waiting = shell.start("wait", "m", "k", stdout=unread.theirs, stderr=unread.theirs)
    _armed(shell)
    shell.do("fire", "m", "k", '"value"')
    assert "armed" in unread.read("value\n")
    assert waiting.end().status == 0


def test_a_full_disk_under_stderr_is_no_matter(shell: Shell) -> None:
    """What cannot be said is not said; the value and the exit code are there."""
    with Path("/dev/full").open("wb") as full:
        shell.do("fire", "m", "k", "7")
        assert shell.start("wait", "m", "k", "other", "--any", stderr=full).end()[:2] == (0, "k\t7\n")
        assert shell.start("wait", "m", "other", "--timeout", "0", stderr=full).end().status == 124


def test_a_non_blocking_stderr_is_waited_for() -> None:
    """Another process may have made it non-blocking: what does not fit waits, and is not lost."""
    ours, theirs = os.pipe()
    os.set_blocking(theirs, False)
    writer = Writer(theirs)
    text = "x" * (fcntl.fcntl(ours, fcntl.F_GETPIPE_SZ) + 1000)
    writer.write(f"{text}\n")
    read = b""
    while not read.endswith(b"\n"):
        read += os.read(ours, 1 << 16)
    assert read.decode() == f"{text}\n"
    assert writer.finish()
    os.close(ours)
    os.close(theirs)


def test_what_is_dropped_is_counted() -> None:
    """Beyond 64 KiB lines are dropped; read again, it says how many, and goes on."""
    output = Unread("pipe")
    writer = Writer(output.theirs)
    lines = [f"coord: line {number}\n" for number in range(20_000)]
    began = time.monotonic()
    for line in lines:
        writer.write(line)
    # Only the first one waited, and but for a moment.
    assert time.monotonic() - began < PATIENCE
    shown = output.read("was not read: ")
    while not shown.endswith("\n"):
        shown += os.read(output.ours, 1 << 16).decode()
    *kept, said = shown.splitlines(keepends=True)
    assert kept == lines[: len(kept)]
    # With what there was room for in the last page of the pipe.
    assert 1 < len("".join(kept)) <= (64 << 10) + select.PIPE_BUF
    assert said == f"coord: lines dropped here, because standard error was not read: {len(lines) - len(kept)}\n"
    assert writer.finish()
    writer.write("again\n")
    assert writer.finish()
    assert output.read("again\n") == "again\n"
    output.close()


# Standard output


def _many(shell: Shell, shared_server: RedisServer) -> None:
    """Fire more than any pipe takes."""
    for key in range(8):
        shell.do("fire", "m", f"k{key}", json.dumps("x" * 60_000))


@pytest.mark.parametrize(
    "words",
    [
        ("wait", "m", "k0"),
        ("ls", "--json", "m"),
        ("watch", "--json", "m", "--since", "start"),
    ],
    ids=" ".join,
)
def test_a_signal_ends_it_though_stdout_is_not_read(
    shell: Shell, shared_server: RedisServer, unread: Unread, words: tuple[str, ...]
) -> None:
    """What waits for its reader is ended by SIGTERM, and loses no line that is read in time."""
    _many(shell, shared_server)
    running = shell.start(*words, stdout=unread.theirs)
    _stuck(running)
    assert running.end(signal.SIGTERM).status == 143


def _stuck(process: Process) -> None:
    """Wait until its reactor waits for room in standard output."""
    deadline = time.monotonic() + PATIENCE
    while not _waits_for_room(Path(f"/proc/{process.popen.pid}")):
        assert time.monotonic() < deadline, "it does not wait for room"
        assert process.popen.poll() is None


def _waits_for_room(process: Path) -> bool:
    """Whether an epoll descriptor of a process watches a pipe or a terminal for EPOLLOUT (4)."""
    with suppress(OSError):
        shown = "".join(each.read_text() for each in (process / "fdinfo").iterdir())
        for fd, events in re.findall(r"^tfd: +(\d+) events: +([0-9a-f]+)", shown, re.MULTILINE):
            if int(events, 16) & 4 and re.match("pipe:|/dev/pts/", str((process / "fd" / fd).readlink())):
                return True
    return False


def test_all_of_it_comes_when_stdout_is_read_again(shell: Shell, shared_server: RedisServer, unread: Unread) -> None:
    """A reader that was slow gets every line whole."""
    _many(shell, shared_server)
    running = shell.start("ls", "--json", "m", stdout=unread.theirs)
    _stuck(running)
    shown = unread.read('"key":"k7"')
    while shown.count("\n") < 8:
        shown += os.read(unread.ours, 1 << 16).decode().replace("\r\n", "\n")
    assert [json.loads(line)["key"] for line in shown.splitlines()] == [f"k{key}" for key in range(8)]
    assert running.end().status == 0


# Between the look for room and the write another process is quicker.
_OVERTAKEN = """if True:
    import os, sys
    from coord.cli import _output
    def has_room(fd):
        os.write(2, b"about to write")
        return True
    _output._has_room = has_room
    _output._opened_again = lambda fd: None
    from coord.cli import main
    main()
"""


def test_a_signal_breaks_off_a_write_that_blocks(shell: Shell, unread: Unread) -> None:
    """If an output cannot be opened again (another user's, after su), a write may block, and a signal ends it."""
    shell.do("fire", "m", "k")
    running = Process((sys.executable, "-c", _OVERTAKEN, "wait", "m", "k"), shell.env, stdout=unread.theirs)
    running.says("about to write")
    deadline = time.monotonic() + PATIENCE
    # The first may come before it writes.
    while running.popen.poll() is None and time.monotonic() < deadline:
        running.popen.send_signal(signal.SIGTERM)
        time.sleep(0.1)
    assert running.popen.poll() == 143
    running.close()
