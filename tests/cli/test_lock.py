"""`coord lock` and `coord elect`: one command at a time, and nothing of it outlives its lock."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from cli.guarded import STUBBORN, lines_of, python
from cli.processes import PATIENCE, Process, RedisServer, Shell

QUICK = ("--lease", "1500ms", "--grace", "500ms")
# Writes one line as the stubborn ones do.
NEXT = STUBBORN.partition("    signal.signal")[0].replace("while True", "for _ in [0]") + '    write(b"next")\n'


def _owning(shell: Shell, *words: str, key: str = "k", name: str = "lock", node: str = "n1") -> Process:
    """Start an owner that says when it owns the lock."""
    says = "locked" if name == "lock" else "leading"
    return shell.start(name, "m", key, "--node", node, *words).says(f"coord: {says} {key} of map m")


def _queued(shell: Shell, number: int, key: str = "k") -> None:
    """Wait until so many own the lock or wait for it."""
    deadline = time.monotonic() + PATIENCE
    while len(shell.run("holders", "m", key).out.splitlines()) < number:
        assert time.monotonic() < deadline


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_one_at_a_time_in_order(shell: Shell, tmp_path: Path) -> None:
    """Each has a higher token, and its value while it owns the lock; the exit code is the command's."""
    script = 'echo "$COORD_KEY $COORD_TOKEN"; exit 7'
    first = _owning(shell, "1", "--", "sh", "-c", f"until [ -e {tmp_path}/go ]; do sleep 0.05; done; {script}")
    assert json.loads(shell.do("get", "m", "k", "--json").out)["value"] == 1
    second = shell.start("lock", "m", "k", "2", "--", "sh", "-c", script)
    _queued(shell, 2)
    third = shell.start("lock", "m", "k", "3", "-q", "--", "sh", "-c", script)
    _queued(shell, 3)
    (tmp_path / "go").touch()
    ended = [process.end() for process in (first, second, third)]
    assert [each.status for each in ended] == [7, 7, 7]
    keys, tokens = zip(*(each.out.split() for each in ended), strict=True)
    assert keys == ("k", "k", "k")
    assert list(tokens) == sorted(set(tokens))
    assert ended[2].err == ""
    assert shell.run("get", "m", "k").status == 3


def test_it_says_what_it_waits_for(shell: Shell) -> None:
    """Who has the lock, and how many are before it; a signal ends the wait, and who waits behind is not held up."""
    first = _owning(shell, "--", "sleep", "1000")
    second = shell.start("lock", "m", "k", "--node", "n2", "--", "echo", "second")
    second.says("coord: waiting for k of map m: n1 has it\n")
    third = shell.start("lock", "m", "k", "--node", "n3", "--", "echo", "third")
    third.says("coord: waiting for k of map m: n1 has it, behind 1 other\n")
    assert second.end(signal.SIGINT)[:2] == (130, "")
    assert first.end(signal.SIGTERM).status == 143
    assert third.end()[:2] == (0, "third\n")


def test_a_time_to_wait(shell: Shell) -> None:
    """124 or another code; 0 tries once. Nothing ran, and nothing waits any more."""
    _owning(shell, "--", "sleep", "1000")
    for words, status in ((("--timeout", "0"), 124), (("--timeout", "100ms", "--conflict-exit-code", "9"), 9)):
        ended = shell.run("lock", "m", "k", *words, "--", "echo", "ran")
        assert ended == (status, "", "coord: not granted in time: n1 has it\n")
    assert len(shell.run("holders", "m", "k").out.splitlines()) == 1
    assert shell.run("lock", "m", "other", "--timeout", "0", "--", "cat", stdin=b"its input").out == "its input"


def test_slots(shell: Shell) -> None:
    """So many at a time, each with the number of its slot."""
    script = ("--", "sh", "-c", "echo $COORD_KEY $COORD_SLOT; exec sleep 1000")
    running = [shell.start("lock", "m", "gpu", "--slots", "2", *script).prints("\n") for _ in range(2)]
    assert sorted(each.out for each in running) == [b"gpu/0 0\n", b"gpu/1 1\n"]
    ended = shell.run("lock", "m", "gpu", "--slots", "2", "--timeout", "0", *script)
    assert (ended.status, ended.out) == (124, "")
    third = shell.start("lock", "m", "gpu", "--slots", "2", *script)
    third.says("coord: waiting for gpu of map m: all 2 slots are taken")
    free = running[0].out
    running[0].end(signal.SIGTERM)
    assert third.prints("\n").out == free


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("k",), "missing command: coord lock MAP KEY [VALUE] -- CMD [ARG]..."),
        (
            ("k", "--kill-after", "6s", "--", "true"),
            "--kill-after is at most a third of --lease and half of --grace, here 5s",
        ),
        (("k", "--lease", "3s", "--kill-after", "2s", "--", "true"), "half of --grace, here 1s"),
        (("k", "--slots", "0", "--", "true"), "slots: a whole number from 1 to 1000"),
        (("k", "--conflict-exit-code", "300", "--", "true"), "300 is not in the range"),
        (("", "--timeout", "1s", "--", "true"), "a key is 1 to 512 bytes"),
        (("k", "--", "/no/such"), "/no/such: command not found"),
    ],
)
def test_bad_input(shell: Shell, words: tuple[str, ...], text: str) -> None:
    """With a sentence; nobody owns the lock then."""
    ended = shell.run("lock", "m", *words)
    assert ended.status == (127 if "/no/such" in words else 2)
    assert text in ended.err
    assert shell.run("holders", "m", "k").status == 3


def test_an_event_is_no_lock(shell: Shell) -> None:
    """2, and the command does not run."""
    shell.do("fire", "m", "k")
    ended = shell.run("lock", "m", "k", "--", "echo", "ran")
    assert (ended.status, ended.out) == (2, "")
    assert "k: " in ended.err


def test_what_a_command_leaves_behind_is_ended(shell: Shell) -> None:
    """Before the lock is released, and it says so."""
    ended = shell.run("lock", "m", "k", "--", "sh", "-c", "setsid sleep 1000 >/dev/null 2>&1 & echo $!; exit 7")
    assert ended.status == 7
    assert not Path(f"/proc/{int(ended.out)}").exists()
    assert "coord: sh has ended; ending what it left behind (1 process)\n" in ended.err
    ended = shell.run("lock", "m", "k", "--", "sh", "-c", "(sleep 0.2; echo written) &")
    assert ended == (0, "written\n", "coord: locked k of map m\n")


@pytest.mark.parametrize("stopped", [("coord",), ("cmd", "left", "coord"), ("guard", "coord")])
def test_the_next_command_begins_after_one_that_is_stopped(
    shell: Shell, tmp_path: Path, stopped: tuple[str, ...]
) -> None:
    """Nothing of the first owner's command runs then; its coord exits with 5 when it goes on."""
    first = _in_order(shell, tmp_path / "log", signal.SIGSTOP, *stopped)
    first.popen.send_signal(signal.SIGCONT)
    ended = first.end()
    assert ended.status == 5
    assert ended.err.endswith(("so CMD was ended\n", "the server was not reached in time\n"))


@pytest.mark.parametrize(
    ("killed", "status"), [(("coord",), -9), (("guard",), 137), (("cmd",), 137), (("keeper", "guard"), 137)]
)
def test_the_next_command_begins_after_one_that_is_killed(
    shell: Shell, tmp_path: Path, killed: tuple[str, ...], status: int
) -> None:
    """Whoever of them that was."""
    assert _in_order(shell, tmp_path / "log", signal.SIGKILL, *killed).end().status == status


def test_children_of_a_shell_that_became_coord_live_on(shell: Shell) -> None:
    """Whatever happens to the guard: they are not of CMD."""
    script = 'sleep 1000 >/dev/null 2>&1 & echo $!; exec "$@"'
    words = ("lock", "m", "k", "--", "sh", "-c", "echo $PPID ready; exec sleep 1000")
    running = shell.start(*words, under=("sh", "-c", script, "sh")).prints("ready")
    other, guard, _ = running.out.split()
    try:
        os.kill(int(guard), signal.SIGKILL)
        assert running.end().status == 137
        assert b"sleep" in Path(f"/proc/{int(other)}/cmdline").read_bytes()
    finally:
        os.kill(int(other), signal.SIGKILL)


def test_the_next_command_begins_after_one_that_was_evicted(shell: Shell, tmp_path: Path) -> None:
    """The server grants nothing before the owner has released, and coord does that when all has ended."""
    assert _in_order(shell, tmp_path / "log", 0, evict=True).end().status == 5


def _in_order(shell: Shell, log: Path, signum: int, *names: str, evict: bool = False) -> Process:
    """Send a signal to some of the first owner's; check that the next owner's command runs after all of its own."""
    first = _owning(shell, *QUICK, "--", *python(STUBBORN, log))
    following = shell.start("lock", "m", "k", *QUICK, "--", *python(NEXT, log))
    _queued(shell, 2)
    while len({name for name, _, _ in lines_of(log)}) < 3:
        time.sleep(0.01)
    pids = {name: pid for name, pid, _ in lines_of(log)} | {"coord": first.popen.pid}
    pids["guard"] = _parent(pids["cmd"])
    pids["keeper"] = _parent(pids["guard"])
    for name in names:
        with suppress(ProcessLookupError):
            os.kill(pids[name], signum)
    if evict:
        shell.do("reset", "m", "k", "--evict")
    assert following.end().status == 0
    lines = lines_of(log)
    assert [name for name, _, _ in lines].count("next") == 1
    assert lines[-1][0] == "next"
    assert not any(Path(f"/proc/{pids[name]}").exists() for name in ("child", "left"))
    return first


def test_a_lock_that_is_lost(shell_at: Callable[[str], Shell], own_server: Callable[..., RedisServer]) -> None:
    """A server that hangs: the command gets SIGTERM before the deadline, and coord exits with 5. Others stand again."""
    server = own_server()
    shell = shell_at(server.url)
    script = "trap 'echo ended; exit' TERM; echo ready; while :; do sleep 0.05; done"
    owner = _owning(shell, *QUICK, "--", "sh", "-c", script).prints("ready")
    leader = _owning(shell, *QUICK, "--", "sh", "-c", script, key="leader", name="elect").prints("ready")
    server.hang()
    ended = owner.end()
    assert (ended.status, ended.out) == (5, "ready\nended\n")
    assert "coord: k: the lock could not be renewed in time, so CMD was ended\n" in ended.err
    leader.prints("ended").says("so CMD was ended; standing for election again\n")
    server._process.send_signal(signal.SIGCONT)  # type: ignore[union-attr]
    leader.prints("ready\nended\nready")
    assert leader.end(signal.SIGTERM).status == 143


def test_an_eviction(shell: Shell) -> None:
    """Ends the command within a heartbeat; who leads stands again."""
    owner = _owning(shell, *QUICK, "--", "sleep", "1000")
    leader = _owning(shell, *QUICK, "--", "sleep", "1000", key="leader", name="elect")
    for key in ("k", "leader"):
        said = f"coord: {key} is a lock that n1 owns; coord reset --evict asks it to release that\n"
        assert shell.do("reset", "m", key, "--evict") == (0, "already\n", said)
    assert owner.end().status == 5
    leader.says("leader: its holders were evicted; standing for election again\ncoord: leading leader of map m\n")
    assert leader.end(signal.SIGTERM).status == 143


def test_an_election(shell: Shell, tmp_path: Path) -> None:
    """Everybody learns who leads; the next leads when the command ends, and its status is the exit code."""
    script = f"until [ -e {tmp_path}/go ]; do sleep 0.05; done; exit 7"
    first = _owning(shell, '"a"', "--", "sh", "-c", script, name="elect")
    second = shell.start(
        "elect", "m", "k", "b", "--node", "n2", "--", "sh", "-c", 'echo "$COORD_TOKEN"; exec sleep 1000'
    )
    assert shell.do("wait", "m", "k").out == "a\n"
    (tmp_path / "go").touch()
    assert first.end().status == 7
    second.prints("\n")
    assert shell.do("wait", "m", "k").out == "b\n"
    second.end(signal.SIGTERM)


def test_after_a_restart_of_the_server(
    shell_at: Callable[[str], Shell], own_server: Callable[..., RedisServer]
) -> None:
    """The owner goes on; who waits is told why nothing is granted."""
    server = own_server("--appendonly", "yes", "--appendfsync", "always")
    shell = shell_at(server.url)
    times = ("--lease", "2s", "--grace", "1s")
    owner = _owning(shell, *times, "--", "sh", "-c", "echo ready; sleep 1.5; echo owner").prints("ready")
    server.stop()
    server.start()
    second = shell.start("lock", "m", "other", *times, "--", "echo", "second")
    assert owner.end()[:2] == (0, "ready\nowner\n")
    second.says(
        "coord: waiting for other of map m: the server has restarted or failed over, and grants no lock for up to"
    )
    assert second.end()[:2] == (0, "second\n")
