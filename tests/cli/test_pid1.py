"""`coord` as PID 1, as in a container without an init."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from cli.processes import Process, Shell, hearing

# --kill-child: nothing stays if unshare itself is ended.
AS_PID_1 = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")


def _can_unshare() -> bool:
    if shutil.which("unshare") is None:
        return False
    return subprocess.run((*AS_PID_1, "true"), capture_output=True, check=False).returncode == 0


pytestmark = pytest.mark.skipif(not _can_unshare(), reason="needs unshare(1) and the right to make a PID namespace")


def _inside(process: Process) -> int:
    """Return what PID 1 is called out here."""
    return int(Path(f"/proc/{process.popen.pid}/task/{process.popen.pid}/children").read_text().split()[0])


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_pid_1_hears_signals(shell: Shell, signum: int, code: int) -> None:
    """The kernel ends a PID 1 only by signals that it handles; a waiter handles these."""
    waiting = shell.start("wait", "m", "k", under=AS_PID_1).says("armed")
    os.kill(_inside(waiting), signum)
    assert waiting.end().status == code


def test_pid_1_reaps_orphans_and_spares_its_own(shell: Shell) -> None:
    """Processes whose parents have gone are reaped, and CMD's own exit code is not taken away by that."""
    shell.do("fire", "m", "k")
    # Many processes that end as orphans, while CMD runs and when it has ended; the second CMD waits for their burial.
    script = """
        for i in 1 2 3 4 5 6 7 8; do (sh -c 'exit 3' &); done
        [ $COORD_KEY = k ] && exit 0
        while grep -qs '^State:.Z' /proc/[0-9]*/status; do :; done
        echo clean; exit 5
    """
    running = shell.start("on", "m", "--since", "start", "--", "sh", "-c", script, under=AS_PID_1).says("armed")
    shell.do("fire", "m", "last")
    assert running.end()[:2] == (5, "clean\n")


def test_pid_1_ends_its_command_first(shell: Shell) -> None:
    """A container that is stopped ends CMD in order, not by the kernel's kill."""
    shell.do("fire", "m", "k")
    words = ("on", "m", "--since", "start", "--", *hearing("SIGTERM", then=0))
    running = shell.start(*words, under=AS_PID_1).prints("ready\n")
    os.kill(_inside(running), signal.SIGTERM)
    assert running.end()[:2] == (143, "ready\nSIGTERM\n")
