"""Whatever ends `coord on` ends the command that it runs, and all that this one has started."""

from __future__ import annotations

import marshal
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from math import inf
from pathlib import Path

import pytest

from cli.processes import PATIENCE, Process, Shell
from coord.cli import _guard

pytestmark = pytest.mark.own_interpreter

# A child of its own, and one that has left CMD's group and session and lost its parent; none hears SIGTERM.
STUBBORN = """
    trap '' TERM HUP INT QUIT
    sleep 1000 &
    (setsid sh -c 'echo "left $$ "; exec sleep 1000' &)
    echo "child $! cmd $$ "
    while :; do sleep 1000; done
"""


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        # Gone, before its file was opened or before it was read.
        return False


def _gone(pids: list[int]) -> bool:
    """Whether all of them end in time."""
    deadline = time.monotonic() + PATIENCE
    while any(map(_alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not any(map(_alive, pids))


class Tree:
    """`coord on` with a command that has started others."""

    def __init__(self, shell: Shell, *options: str, script: str = STUBBORN) -> None:
        shell.do("fire", "m", "k")
        self.coord = shell.start("on", "m", "--since", "start", *options, "--", "sh", "-c", script)
        for name in ("left", "child", "cmd"):
            self.coord.prints(f"{name} ")
        while self.coord.out.count(b" ") < 6:
            self.coord.prints("\n")
        words = self.coord.out.decode().split()
        self.pids = {name: int(pid) for name, pid in zip(words[::2], words[1::2], strict=True)}

    @property
    def guard(self) -> int:
        """The process above CMD."""
        return int(Path(f"/proc/{self.pids['cmd']}/stat").read_text().rpartition(")")[2].split()[1])

    @property
    def processes(self) -> list[int]:
        """All that CMD is and has started."""
        return list(self.pids.values())


@pytest.fixture
def trees(shell: Shell) -> Iterator[list[Tree]]:
    """Keep what is started, so that nothing of it outlives a test that fails."""
    started: list[Tree] = []
    yield started
    for tree in started:
        for pid in tree.processes:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _start(shell: Shell, trees: list[Tree], *options: str, script: str = STUBBORN) -> Tree:
    trees.append(Tree(shell, *options, script=script))
    return trees[-1]


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"])
def test_a_signal_ends_all_of_it_first(shell: Shell, trees: list[Tree], name: str) -> None:
    """When coord has gone by a signal that it handles, nothing of CMD is there any more; the code is the signal's."""
    tree = _start(shell, trees, "--grace", "200ms")
    signum = getattr(signal, name)
    tree.coord.popen.send_signal(signum)
    assert tree.coord.popen.wait(PATIENCE) == 128 + signum
    assert not any(map(_alive, tree.processes))


@pytest.mark.parametrize("name", ["SIGKILL", "SIGSEGV", "SIGABRT", "SIGALRM", "SIGXCPU"])
def test_the_guard_ends_all_of_it_when_coord_is_killed(shell: Shell, trees: list[Tree], name: str) -> None:
    """What coord cannot handle ends CMD all the same, and what has left its group; the grace is coord's alone."""
    tree = _start(shell, trees, "--grace", "1h")
    guard = tree.guard
    tree.coord.popen.send_signal(getattr(signal, name))
    assert tree.coord.popen.wait(PATIENCE) == -getattr(signal, name)
    assert _gone([*tree.processes, guard])


def test_what_is_stopped_is_ended_too(shell: Shell, trees: list[Tree]) -> None:
    """A CMD that was stopped neither lives on nor holds up coord's end."""
    for signum in (signal.SIGTERM, signal.SIGKILL):
        tree = _start(shell, trees, "--grace", "200ms")
        for pid in tree.processes:
            os.kill(pid, signal.SIGSTOP)
        tree.coord.says("was stopped by SIGSTOP")
        tree.coord.popen.send_signal(signum)
        tree.coord.popen.wait(PATIENCE)
        assert _gone(tree.processes)


def test_coord_ends_it_when_the_guard_is_killed(shell: Shell, trees: list[Tree]) -> None:
    """Without its guard CMD is not left running: coord ends its group, and counts it as killed."""
    tree = _start(shell, trees)
    os.kill(tree.guard, signal.SIGKILL)
    assert _gone([tree.pids["cmd"], tree.pids["child"]])
    assert tree.coord.popen.wait(PATIENCE) == 137


def test_a_guard_that_is_stopped_is_continued(shell: Shell, trees: list[Tree]) -> None:
    """So SIGTERM to coord ends all of CMD before coord ends."""
    tree = _start(shell, trees, "--grace", "100ms")
    os.kill(tree.guard, signal.SIGSTOP)
    tree.coord.popen.send_signal(signal.SIGTERM)
    assert tree.coord.popen.wait(PATIENCE) == 143
    assert not any(map(_alive, tree.processes))


def test_guards_that_were_stopped_do_not_save_it(shell: Shell, trees: list[Tree]) -> None:
    """SIGTERM to coord ends CMD's group though no guard acts; the guard ends the rest when it goes on."""
    tree = _start(shell, trees, "--grace", "100ms")
    guard = tree.guard
    os.killpg(os.getpgid(guard), signal.SIGSTOP)
    tree.coord.popen.send_signal(signal.SIGTERM)
    assert tree.coord.popen.wait(PATIENCE) == 143
    assert _gone([tree.pids["child"]])
    os.kill(guard, signal.SIGCONT)
    assert _gone([*tree.processes, guard])


def test_orders_that_come_with_the_request() -> None:
    """Coord may be ended when the guard is about to start: it obeys then, too."""
    ours, control = socket.socketpair()
    wire, theirs = socket.socketpair()
    with ours, control, wire, theirs:
        words = (sys.executable, "-IS", _guard.__file__, str(control.fileno()), "0")
        guards = subprocess.Popen(words, pass_fds=(control.fileno(),))
        request = marshal.dumps(([b"sleep", b"1000"], dict(os.environb), b"", False, time.CLOCK_MONOTONIC, inf, 5.0))
        wire.sendall(len(request).to_bytes(4, "big") + request + b"end 1000\n")
        socket.send_fds(ours, [b"+"], [theirs.fileno()])
        theirs.close()
        wire.settimeout(PATIENCE)
        said = b""
        while data := wire.recv(4096):
            said += data
        assert said.split()[2:] == [b"ended", str(signal.SIGTERM.value).encode(), b"gone", b"0"]
        ours.close()
        assert guards.wait(PATIENCE) == 0


def test_what_a_command_leaves_behind_lives_on(shell: Shell) -> None:
    """A CMD that starts a service and ends has done its work: coord's end is not the service's."""
    shell.do("fire", "m", "k")
    script = "(setsid sleep 1000 >&- 2>&- & echo $!); sleep 1001 >&- 2>&- & echo $!"
    running = shell.start("on", "m", "--since", "start", "--", "sh", "-c", script).says("armed")
    assert running.end(signal.SIGTERM).status == 143
    left = list(map(int, running.out.split()))
    assert len(left) == 2
    try:
        assert all(map(_alive, left))
    finally:
        for pid in left:
            os.kill(pid, signal.SIGKILL)


def test_nothing_of_coords_is_handed_on(shell: Shell, tmp_path: Path) -> None:
    """CMD gets three descriptors, no blocked or ignored signals, and its input from the start."""
    shell.do("fire", "m", "k")
    script = "grep -E '^Sig(Ign|Blk)' /proc/self/status; ls /proc/self/fd; cat; exit 9"
    cursor = str(tmp_path / "cursor")
    ended = shell.run("on", "m", "--since", "start", "--cursor", cursor, "--", "sh", "-c", script)
    blocked, ignored, *descriptors, record = ended.out.splitlines()
    assert int(blocked.split()[1], 16) == 0
    assert not int(ignored.split()[1], 16) & (1 << (signal.SIGPIPE - 1) | 1 << (signal.SIGXFSZ - 1))
    # 3 is the directory that ls reads.
    assert descriptors == ["0", "1", "2", "3"]
    assert record.startswith('{"map":"m","key":"k"')


def test_what_is_ignored_stays_ignored(shell: Shell) -> None:
    """Under nohup neither coord nor CMD ends at the hang-up."""
    shell.do("fire", "m", "k")
    script = "grep SigIgn /proc/self/status; exit 9"
    words = ("on", "m", "--since", "start", "--", "sh", "-c", script)
    ended = shell.start(*words, under=("sh", "-c", "trap '' HUP; exec \"$@\"", "sh")).end()
    assert int(ended.out.split()[1], 16) & 1


def test_the_same_change_does_not_begin_again_beside_a_killed_one(shell: Shell, tmp_path: Path) -> None:
    """A supervisor that starts coord again at once finds nothing of the CMD that the killed one ran."""
    log = tmp_path / "log"
    script = f"echo $$ >> {log}; trap '' TERM; while :; do sleep 1000; done"
    words = ("on", "m", "--since", "start", "--cursor", str(tmp_path / "cursor"), "--", "sh", "-c", script)
    shell.do("fire", "m", "k")
    pids: list[int] = []
    for _ in range(3):
        running: Process = shell.start(*words)
        deadline = time.monotonic() + PATIENCE
        while not log.exists() or len(log.read_text().split()) <= len(pids):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert not any(map(_alive, pids))
        pids = list(map(int, log.read_text().split()))
        running.kill()
    assert _gone(pids)
