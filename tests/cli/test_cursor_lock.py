"""Two `coord on` with one cursor file never run at the same time."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from cli.processes import Process, Shell

SHOW = ("sh", "-c", 'echo "$COORD_KEY"')


def words(cursor: Path, *command: str) -> tuple[str, ...]:
    """Return the words of a run that handles what the cursor does not cover."""
    return ("on", "m", "--since", "start", "--cursor", str(cursor), "--", *(command or SHOW))


def refused(shell: Shell, cursor: Path, pid: int, *, named: Path | None = None) -> None:
    """Try another one, which must say who has the cursor file."""
    ended = shell.run(*words(named or cursor))
    other = f"another coord on (pid {pid}) is using it; give each its own file"
    assert ended == (69, "", f"coord: cursor file {cursor}: {other}\n")


def stop(running: Process) -> None:
    """Stop a process as Ctrl-Z or a debugger would."""
    running.popen.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, running.popen.pid, os.WSTOPPED | os.WNOWAIT)


@pytest.mark.own_interpreter
def test_the_second_is_refused_and_the_first_goes_on(shell: Shell, tmp_path: Path) -> None:
    """The second ends with 69 and a sentence that names the first; after that one's end the next one continues."""
    cursor = tmp_path / "cursor"
    first = shell.start(*words(cursor)).says("armed")
    refused(shell, cursor, first.popen.pid)
    shell.do("fire", "m", "a")
    assert first.prints("a\n").end(signal.SIGTERM).status == 143
    shell.do("fire", "m", "b")
    assert shell.start(*words(cursor)).prints("b\n").end(signal.SIGTERM).status == 143


@pytest.mark.own_interpreter
def test_one_that_is_stopped_keeps_it(shell: Shell, tmp_path: Path) -> None:
    """Whoever is stopped will go on, maybe in the middle of a change: the second is refused all the same."""
    cursor = tmp_path / "cursor"
    first = shell.start(*words(cursor)).says("armed")
    stop(first)
    refused(shell, cursor, first.popen.pid)
    first.popen.send_signal(signal.SIGCONT)
    shell.do("fire", "m", "a")
    assert first.prints("a\n").end(signal.SIGTERM).status == 143


@pytest.mark.own_interpreter
def test_the_guard_of_a_command_keeps_it_too(shell: Shell, tmp_path: Path) -> None:
    """If coord is killed the lock lasts until its CMD has ended: what ends CMD holds it, and CMD itself does not."""
    cursor = tmp_path / "cursor"
    shell.do("fire", "m", "a")
    first = shell.start(*words(cursor, "sh", "-c", 'echo "$PPID $$"; exec sleep 1000')).prints("\n")
    pids = [first.popen.pid, *map(int, first.out.split())]
    holders = [_has_open(pid, tmp_path / "cursor.lock") for pid in pids]
    assert holders == [True, True, False]
    first.kill()
    # At once, as a supervisor would.
    shell.start(*words(cursor)).prints("a\n").says("armed")


def _has_open(pid: int, path: Path) -> bool:
    links = []
    for each in Path(f"/proc/{pid}/fd").iterdir():
        # A program that starts opens its libraries, and closes them.
        with suppress(FileNotFoundError):
            links.append(each.readlink())
    return path in links


@pytest.mark.own_interpreter
def test_what_a_command_leaves_behind_does_not_keep_it(shell: Shell, tmp_path: Path) -> None:
    """The lock is coord's and its guard's, not CMD's."""
    cursor = tmp_path / "cursor"
    shell.do("fire", "m", "a")
    first = shell.start(*words(cursor, "sh", "-c", "sleep 1000 </dev/null >/dev/null 2>&1 & echo $!")).says("armed")
    try:
        assert first.end(signal.SIGTERM).status == 143
        shell.start(*words(cursor)).says("armed")
    finally:
        os.kill(int(first.out), signal.SIGKILL)


def test_another_name_of_the_file_is_the_same_file(shell: Shell, tmp_path: Path) -> None:
    """A symbolic link to the cursor file leads to the same lock."""
    cursor, link = tmp_path / "cursor", tmp_path / "link"
    link.symlink_to(cursor)
    first = shell.start(*words(cursor)).says("armed")
    refused(shell, cursor, first.popen.pid, named=link)


def test_another_file_is_nobodys_business(shell: Shell, tmp_path: Path) -> None:
    """Two with a file each, and two without any, run side by side."""
    for name in ("one", "two"):
        shell.start(*words(tmp_path / name)).says("armed")
    for _ in range(2):
        shell.start("on", "m", "--", *SHOW).says("armed")


def test_the_lock_is_not_where_somebody_else_has_put_it(shell: Shell, tmp_path: Path) -> None:
    """A link in the place of the lock is not followed; it is named, and nothing runs."""
    (tmp_path / "cursor.lock").symlink_to(tmp_path / "victim")
    ended = shell.run(*words(tmp_path / "cursor"))
    assert ended[:2] == (2, "")
    assert f"cursor file {tmp_path}/cursor: {tmp_path}/cursor.lock: " in ended.err
    assert not (tmp_path / "victim").exists()


@pytest.mark.parametrize("pid", [b"", b"what is this\n"])
def test_a_holder_that_is_not_named_is_still_one(shell: Shell, tmp_path: Path, pid: bytes) -> None:
    """Whatever stands in the lock file, who holds the lock has it."""
    import fcntl

    with (tmp_path / "cursor.lock").open("wb") as held:
        held.write(pid)
        held.flush()
        fcntl.flock(held, fcntl.LOCK_EX)
        ended = shell.run(*words(tmp_path / "cursor"))
    assert ended == (
        69,
        "",
        f"coord: cursor file {tmp_path}/cursor: another coord on (pid unknown) is using it; give each its own file\n",
    )
