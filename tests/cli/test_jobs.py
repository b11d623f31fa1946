"""`coord on` as a job of an interactive shell: CMD has the terminal, and both stop and go on together."""

from __future__ import annotations

import fcntl
import os
import re
import select
import shlex
import shutil
import signal
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from cli.processes import COORD, PATIENCE, Shell
from coord.cli._jobs import JobControl

if TYPE_CHECKING:
    from coord.cli._guarded import GuardedCommand

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash, for job control")

CTRL_C, CTRL_Z, CTRL_BACKSLASH = "\x03", "\x1a", "\x1c"
PROMPT = "ready> "


class Console:
    """An interactive shell on a terminal of its own."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self.ours, theirs = os.openpty()
        environment = {**shell.env, "PS1": PROMPT, "TERM": "dumb", "HISTFILE": "/dev/null"}
        self.popen = subprocess.Popen(
            ("bash", "--norc", "--noprofile", "--noediting", "-i"),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environment,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(theirs)
        self.shown = ""
        self.sees(PROMPT)
        self.types(f'coord() {{ {shlex.join(COORD)} "$@"; }}\n').sees(PROMPT)

    def types(self, keys: str) -> Console:
        """Type, and forget what was shown before; return itself."""
        self.shown = ""
        os.write(self.ours, keys.encode())
        return self

    def sees(self, pattern: str) -> str:
        """Wait until a regular expression matches what is shown; return what its group matched, or all of it."""
        deadline = time.monotonic() + PATIENCE
        while (found := re.search(pattern, self.shown)) is None:
            assert select.select([self.ours], [], [], max(0.0, deadline - time.monotonic()))[0], (pattern, self.shown)
            self.shown += os.read(self.ours, 1 << 16).decode().replace("\r\n", "\n")
        return found[1] if found.re.groups else found[0]

    def runs(self, script: str, *options: str, after: str = "") -> Console:
        """Type a `coord on` whose CMD is a script of sh."""
        words = " ".join(("on", "m", "--since", "start", *options))
        return self.types(f"coord {words} -- sh -c '{script}' {after}\n")

    def has_given_the_terminal_to(self, *groups: int) -> None:
        """Wait until one of these process groups has it: bash prints a job before it gives it the terminal."""
        deadline = time.monotonic() + PATIENCE
        while (foreground := os.tcgetpgrp(self.ours)) not in groups:
            assert time.monotonic() < deadline, (foreground, groups, self.shown)
            time.sleep(0.01)

    def status(self) -> int:
        """Ask for the last exit code, once the prompt is there again."""
        self.sees(PROMPT)
        return int(self.types("echo code=$?\n").sees(r"code=(\d+)\n"))

    def hang_up(self) -> None:
        """Close the terminal."""
        os.close(self.ours)
        self.ours = -1

    def end(self) -> None:
        """Leave nothing behind."""
        if self.ours >= 0:
            self.hang_up()
        self.popen.kill()
        self.popen.wait(PATIENCE)


@pytest.fixture
def console(shell: Shell) -> Iterator[Console]:
    """Give an interactive shell; there is a change to run CMD for."""
    shell.do("fire", "m", "k")
    console = Console(shell)
    yield console
    console.end()


class _LentTerminal:
    """A terminal that is coord's again as soon as it is taken back."""

    exists = True

    def __init__(self) -> None:
        self.lent = True
        self.is_ours_to_lend = False

    def take_back(self) -> None:
        self.lent, self.is_ours_to_lend = False, True

    def lend(self, _group: int | None = None) -> None:
        self.lent, self.is_ours_to_lend = True, False


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _becomes(pid: int, states: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while _state(pid) not in states:
        assert time.monotonic() < deadline, (pid, _state(pid), states)
        time.sleep(0.01)


def _coord_of(cmd: int) -> int:
    """Return the coord that runs CMD: in its session there is only one."""
    session = os.getsid(cmd)
    for entry in Path("/proc").iterdir():
        with suppress(FileNotFoundError, NotADirectoryError, ProcessLookupError):
            words = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdigit() else []
            if b"coord.cli" in words and os.getsid(int(entry.name)) == session:
                return int(entry.name)
    raise AssertionError("no coord")


def test_a_command_reads_the_terminal(console: Console) -> None:
    """CMD reads what is typed, and stty works."""
    console.runs('stty -echo </dev/tty && stty echo </dev/tty && echo cmd=$$; read line </dev/tty; echo "got=$line"')
    console.sees(r"cmd=\d+\n")
    assert console.types("hello\n").sees(r"got=(.*)\n") == "hello"
    console.sees("armed")
    assert console.types(CTRL_C).status() == 130


def test_the_terminal_is_the_next_commands_and_then_the_shells(console: Console, shell: Shell) -> None:
    """One CMD after the other has it; in the end the shell has it again."""
    shell.do("fire", "m", "last")
    console.runs('echo cmd=$$; read line </dev/tty; echo "got=$line"; [ $COORD_KEY = k ] || exit 9')
    for line in ("one", "two"):
        console.sees(r"cmd=\d+\n")
        assert console.types(f"{line}\n").sees(r"got=(.*)\n") == line
    assert console.status() == 9


def test_ctrl_z_stops_both_and_fg_continues_both(console: Console) -> None:
    """Ctrl-Z gives the prompt back with nothing running; fg lets CMD go on where it was, with the terminal."""
    console.runs('echo cmd=$$; read line </dev/tty; echo "got=$line"; exit 9')
    cmd = int(console.sees(r"cmd=(\d+)\n"))
    coord = _coord_of(cmd)
    for _ in range(2):
        console.types(CTRL_Z).sees("Stopped")
        console.sees(PROMPT)
        _becomes(cmd, "T")
        _becomes(coord, "T")
        console.types("fg\n").sees("coord.cli")
        _becomes(cmd, "SR")
    assert console.types("hello\n").sees(r"got=(.*)\n") == "hello"
    assert console.status() == 9


def test_fg_continues_the_command_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second SIGCONT, sent a little later, would continue a command that Ctrl-Z has stopped again meanwhile."""
    # As fg does, once the shell has seen that coord is stopped.
    monkeypatch.setattr(os, "killpg", lambda _group, _signum: signal.raise_signal(signal.SIGCONT))
    before = {signum: signal.getsignal(signum) for signum in (signal.SIGTSTP, signal.SIGCONT)}
    later: list[Callable[[], None]] = []
    sent: list[int] = []
    try:
        control = JobControl(SimpleNamespace(callFromThread=later.append), "CMD")
        monkeypatch.setattr(control, "_terminal", _LentTerminal())
        control.begin(cast("GuardedCommand", SimpleNamespace(pid=1, signal=sent.append)))
        control.on_stop(signal.SIGTSTP)
        for call in later:
            call()
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
    assert len(later) == 1
    assert sent == [signal.SIGCONT]


def test_bg_continues_both_without_the_terminal(console: Console) -> None:
    """After Ctrl-Z and bg CMD goes on in the background, and leaves the terminal to the shell."""
    console.runs("echo cmd=$$; exec sleep 1000")
    cmd = int(console.sees(r"cmd=(\d+)\n"))
    console.types(CTRL_Z).sees("Stopped")
    console.types("bg\n").sees("coord.cli")
    _becomes(cmd, "SR")
    console.types("echo word=shell\n").sees("word=shell\n")
    console.types("fg\n").has_given_the_terminal_to(_coord_of(cmd))
    console.types(CTRL_C)
    assert console.status() == 130
    assert _state(cmd) == ""


def test_a_command_gets_the_terminal_when_it_reads_it_after_bg_and_fg(console: Console, tmp_path: Path) -> None:
    """A shell sends no SIGCONT to a job that runs in the background already: coord lends the terminal when CMD asks."""
    go_on = tmp_path / "go_on"
    os.mkfifo(go_on)
    console.runs(f'echo cmd=$$; read word <{go_on}; read line </dev/tty; echo "got=$line"; exit 9')
    cmd = int(console.sees(r"cmd=(\d+)\n"))
    coord = _coord_of(cmd)
    console.types(CTRL_Z).sees("Stopped")
    console.types("bg\n").sees("coord.cli")
    _becomes(coord, "SR")
    # A coord that goes on only now finds the terminal its own, and lends it at once.
    console.types("fg\n").has_given_the_terminal_to(coord, cmd)
    go_on.write_text("on\n")
    assert console.types("hello\n").sees(r"got=(.*)\n") == "hello"
    assert "wants the terminal" not in console.shown
    assert console.status() == 9


def test_in_the_background_a_sentence_says_that_it_wants_the_terminal(console: Console) -> None:
    """A background CMD that reads the terminal is stopped; coord says so, and stops; fg gives it the terminal."""
    console.runs('echo cmd=$$; read line </dev/tty; echo "got=$line"; exit 9', after="&")
    console.sees("coord: sh was stopped because it wants the terminal; bring coord to the foreground [(]fg[)]")
    coord = _coord_of(int(console.sees(r"cmd=(\d+)\n")))
    _becomes(coord, "T")
    # The shell may notice it later than we do.
    while console.types("jobs\n").sees("(Stopped|Running)") == "Running":
        pass
    console.types("fg\n").sees("coord")
    _becomes(coord, "SR")
    assert console.types("hello\n").sees(r"got=(.*)\n") == "hello"
    assert console.status() == 9


@pytest.mark.parametrize(("key", "code"), [(CTRL_C, 130), (CTRL_BACKSLASH, 131)])
def test_a_key_that_ends_the_command_ends_coord(console: Console, shell: Shell, key: str, code: int) -> None:
    """Ctrl-C goes to CMD, which has the terminal; it is meant for coord as well, whatever --keep-going says."""
    shell.do("fire", "m", "next")
    console.runs("echo key=$COORD_KEY; exec sleep 1000", "--keep-going").sees("key=k\n")
    console.types(key)
    assert console.status() == code
    assert "key=next" not in console.shown


def test_a_killed_command_leaves_the_terminal_as_it_was(console: Console) -> None:
    """The modes of the terminal are restored if CMD was killed before it could do that."""
    console.runs("stty -echo -icanon </dev/tty; kill -9 $$")
    assert console.status() == 137
    modes = console.types("stty -a\n").sees(r"(?s)(speed.*echoctl)")
    assert " echo " in modes
    assert " icanon " in modes


def test_stopping_coord_stops_its_command(console: Console) -> None:
    """SIGTSTP that is sent to coord alone stops CMD too, even one that ignores it; SIGCONT continues both."""
    for trap in ("", 'trap "" TSTP;'):
        console.runs(f"{trap} echo cmd=$$; exec sleep 1000")
        cmd = int(console.sees(r"cmd=(\d+)\n"))
        coord = _coord_of(cmd)
        os.kill(coord, signal.SIGTSTP)
        console.sees("Stopped")
        _becomes(cmd, "T")
        _becomes(coord, "T")
        console.types("fg\n").sees("coord.cli")
        _becomes(cmd, "SR")
        assert console.types(CTRL_C).status() == 130


def test_ctrl_z_for_longer_than_its_lease_loses_a_lock(console: Console) -> None:
    """The guard ends the stopped CMD; coord finds that when it goes on."""
    script = 'echo cmd=$$; read line; echo "got=$line"; exec sleep 1000'
    console.types(f"coord lock m lock --lease 500ms --grace 300ms -- sh -c '{script}'\n")
    cmd = int(console.sees(r"cmd=(\d+)\n"))
    # It has coord's stdin, and the terminal.
    assert console.types("hello\n").sees(r"got=(.*)\n") == "hello"
    console.types(CTRL_Z).sees("Stopped")
    _becomes(cmd, "")
    console.types("fg\n").sees("coord.cli")
    assert console.status() == 5


def test_without_a_command_ctrl_z_stops_coord(console: Console, shell: Shell) -> None:
    """While it waits for a change, Ctrl-Z and fg are what they are for any program."""
    console.types("coord on other -- sh -c 'exit 9'\n").sees("armed")
    console.types(CTRL_Z).sees("Stopped")
    console.types("fg\n").sees("coord.cli")
    shell.do("fire", "other", "k")
    assert console.status() == 9


def test_a_hang_up_ends_both(console: Console) -> None:
    """When the terminal is closed, coord and CMD end."""
    console.runs("echo cmd=$$; exec sleep 1000")
    cmd = int(console.sees(r"cmd=(\d+)\n"))
    coord = _coord_of(cmd)
    console.hang_up()
    _becomes(cmd, "XZ")
    _becomes(coord, "XZ")


def test_a_script_keeps_its_terminal(console: Console, tmp_path: Path) -> None:
    """A `coord on` that a script runs in the background takes no terminal from the script."""
    script = tmp_path / "script"
    on = shlex.join((*COORD, "on", "m", "--since", "start", "--", "sh", "-c", "echo cmd=$$; exec sleep 1000"))
    script.write_text(f'#!/bin/sh\n{on} &\nread line; echo "got=$line"; kill $!; wait\n')
    script.chmod(0o755)
    console.types(f"{script}\n").sees(r"cmd=\d+\n")
    assert console.types("hello\n").sees(r"got=(.*)\n") == "hello"
    console.sees(PROMPT)


def test_without_a_terminal_a_stop_is_said(shell: Shell) -> None:
    """Where no shell would continue coord, a CMD that was stopped is no reason to stop: a sentence says so."""
    shell.do("fire", "m", "k")
    script = "echo $$; kill -STOP $$; echo on; exit 9"
    running = shell.start("on", "m", "--since", "start", "--", "sh", "-c", script, start_new_session=True)
    running.says("coord: sh was stopped by SIGSTOP; SIGCONT continues it")
    os.kill(int(running.out), signal.SIGCONT)
    assert running.end().status == 9
