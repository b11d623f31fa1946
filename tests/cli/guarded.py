"""A parent that gives a guarded command its deadlines, as `coord lock` does, and nothing else.

Run as a script, it forks such a parent for each line of its input, a JSON object, and prints the parent's pid. The
fork shares its imports, most of what a start takes.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

__all__ = ["LEASE", "NOTICE", "STUBBORN", "Parents", "lines_of", "now", "python"]

LEASE = 1.0
NOTICE = 0.3
_EVERY = 0.1

# Writes its name, pid and the time again and again, and so do a child, and a grandchild that left its session and lost
# its parent. None ends at SIGTERM.
STUBBORN = """if True:
    import os, signal, sys, time
    log = open(sys.argv[1], "ab", 0)
    def write(name):
        while True:
            log.write(b"%s %d %f\\n" % (name, os.getpid(), time.clock_gettime(time.CLOCK_BOOTTIME)))
            time.sleep(0.02)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if not os.fork():
        write(b"child")
    if not os.fork():
        os.setsid()
        if os.fork():
            os._exit(0)
        write(b"left")
    write(b"cmd")
"""


def python(script: str, *words: str | Path) -> tuple[str, ...]:
    """Return the command that runs a script."""
    return (sys.executable, "-ISc", script, *map(str, words))


def lines_of(log: Path) -> list[tuple[str, int, float]]:
    """Return what was logged: names, pids and times."""
    text = log.read_text() if log.exists() else ""
    words = (line.split() for line in text.splitlines(keepends=True) if line.endswith("\n"))
    return [(name, int(pid), float(at)) for name, pid, at in words]


def now() -> float:
    """Return the time on the clock of the deadlines."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Parents:
    """Starts parents; the script starts with the first one, under another program if one is named."""

    def __init__(self, *under: str) -> None:
        self._under = under
        self._popen: subprocess.Popen[str] | None = None

    def start(self, folder: Path, argv: tuple[str, ...], *, lease: float = LEASE) -> int:
        """Run ``argv`` under a parent; return the parent's pid.

        It renews until there is a file ``cut`` in the folder. It writes each deadline to ``deadlines`` before it gives
        it, and at its end the exit code, the time, and whether the deadline came near, to ``report``.
        """
        if self._popen is None:
            words = (*self._under, sys.executable, "-P", "-W", "error", __file__)
            self._popen = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        self._popen.stdin.write(json.dumps([str(folder), argv, lease]) + "\n")
        self._popen.stdin.flush()
        return int(self._popen.stdout.readline())

    def end(self) -> None:
        """Let it go."""
        if self._popen is not None:
            with self._popen as popen:
                popen.communicate()


def _serve() -> None:
    from coord.cli import _guarded_commands  # noqa: F401 - for the forks

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        if pid := os.fork():
            sys.stdout.write(f"{pid}\n")
            sys.stdout.flush()
            continue
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        # The server's input and output are not for it.
        os.dup2(os.open(os.devnull, os.O_RDWR), 0)
        os.dup2(0, 1)
        folder, argv, lease = json.loads(line)
        _be_parent(Path(folder), argv, lease)
        os._exit(0)


def _be_parent(folder: Path, argv: list[str], lease: float) -> None:
    from twisted.internet import reactor
    from twisted.internet.defer import Deferred
    from twisted.internet.task import LoopingCall

    from coord.cli._guarded_commands import Commands
    from coord.clock import steady

    clock: Any = steady(reactor)
    due: list[bool] = []

    def deadline() -> float:
        at = now() + lease
        with (folder / "deadlines").open("a") as file:
            file.write(f"{at}\n")
        return at

    async def run() -> None:
        with Commands(clock, argv, NOTICE, exclusive=True) as commands:

            def renew() -> None:
                if not (folder / "cut").exists():
                    commands.extend(deadline())

            renewing = LoopingCall(renew)
            renewing.clock = clock
            renewing.start(_EVERY, now=False)
            status = await commands.run({}, deadline=deadline(), on_due=lambda: due.append(True))
        (folder / "report.new").write_text(f"{status} {now()} {len(due)}\n")
        (folder / "report.new").rename(folder / "report")

    def finished(error: object) -> None:
        if error is not None:
            (folder / "report").write_text(f"{error}")
        clock.callLater(0, clock.crash)

    clock.callWhenRunning(lambda: Deferred.fromCoroutine(run()).addBoth(finished))
    clock.run()


if __name__ == "__main__":
    _serve()
