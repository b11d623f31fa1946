"""No process of a command outlives its time, whichever of those who watch over it is stopped or killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from cli.guarded import LEASE, NOTICE, STUBBORN, Parents, lines_of, now, python
from cli.processes import PATIENCE

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere only the group of the command is ended")

# Seconds by which a busy machine may be late.
SLACK = 0.5

# Seconds in which what a command has left behind may end by itself.
LEAVING = 0.5

# Forks without end, each child in a session of its own, and each parent ends at once.
RUNNING_AWAY = """if True:
    import os, signal, sys, time
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if os.fork() and os.fork() and os.fork():
        open(sys.argv[1], "ab", 0).write(b"cmd %d %f\\n" % (os.getpid(), time.clock_gettime(time.CLOCK_BOOTTIME)))
        time.sleep(1000)
    while True:
        if os.fork():
            os._exit(0)
        os.setsid()
"""


class Tree:
    """A command under a parent, and who is in it."""

    def __init__(self, folder: Path, parents: Parents) -> None:
        self.folder = folder
        self._parents = parents
        self.log = folder / "log"
        self.pids: dict[str, int] = {}

    def start(self, script: str = STUBBORN, *, names: int = 3, lease: float = LEASE) -> Tree:
        """Run a script that logs; return itself once so many processes do."""
        self.pids["coord"] = self._parents.start(self.folder, python(script, self.log), lease=lease)
        self.until(lambda: len({name for name, _, _ in self.lines()}) >= names)
        self.pids |= {name: pid for name, pid, _ in self.lines()}
        self.pids["guard"] = _parent(self.pids["cmd"])
        self.pids["keeper"] = _parent(self.pids["guard"])
        assert _parent(self.pids["keeper"]) == self.pids["coord"]
        return self

    def lines(self) -> list[tuple[str, int, float]]:
        """Return what was logged."""
        return lines_of(self.log)

    def until(self, done: Callable[[], bool]) -> None:
        """Wait until something is true."""
        deadline = time.monotonic() + PATIENCE
        while not done():
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def send(self, signum: int, *names: str) -> None:
        """Send a signal to some."""
        for name in names:
            # The others may have been quicker.
            with suppress(ProcessLookupError):
                os.kill(self.pids[name], signum)

    def cut(self) -> None:
        """Have the deadline not moved any more."""
        (self.folder / "cut").touch()

    def deadline(self) -> float:
        """Return the last deadline that was given."""
        return float((self.folder / "deadlines").read_text().split()[-1])

    def report(self) -> tuple[int, float, bool]:
        """Return what the parent reports: exit code, time, and whether the deadline came near."""
        path = self.folder / "report"
        self.until(path.exists)
        status, at, due = path.read_text().split()
        return int(status), float(at), due != "0"

    @property
    def of_cmd(self) -> list[str]:
        """The names of the command's processes."""
        return [name for name in self.pids if name in ("cmd", "child", "left")]

    def alive(self, *names: str) -> list[str]:
        """Return which of these live."""
        return [name for name in names if _alive(self.pids[name])]

    def end_of_all(self) -> float:
        """Wait until none of the command's processes is left; return when the last of them was seen to run."""
        self.until(lambda: not self.alive(*self.of_cmd))
        return max(at for _, _, at in self.lines())


@pytest.fixture(scope="module")
def parents() -> Iterator[Parents]:
    """Give what starts parents."""
    parents = Parents()
    yield parents
    parents.end()


@pytest.fixture
def tree(tmp_path: Path, parents: Parents) -> Iterator[Tree]:
    """Give a command that is to be started; nothing of it outlives the test."""
    tree = Tree(tmp_path, parents)
    yield tree
    for name in ("coord", "keeper", "guard", *tree.of_cmd):
        with suppress(ProcessLookupError, KeyError):
            os.kill(tree.pids[name], signal.SIGKILL)


def _stat(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ["X", "0"]


def _parent(pid: int) -> int:
    return int(_stat(pid)[1])


def _alive(pid: int) -> bool:
    return _stat(pid)[0] not in "ZX"


@pytest.mark.parametrize("names", ["coord", "keeper", "guard", "cmd", "child", "left", "coord guard", "keeper guard"])
def test_one_that_is_stopped(tree: Tree, names: str) -> None:
    """The others end all of the command by the deadline."""
    tree.start()
    tree.send(signal.SIGSTOP, *names.split())
    tree.cut()
    assert tree.end_of_all() < tree.deadline() + SLACK
    if "coord" in names:
        # Else it might hear of the command's end a moment before its own timer.
        tree.until(lambda: now() >= tree.deadline())
        tree.send(signal.SIGCONT, "coord")
    status, at, due = tree.report()
    assert (status, due) == (137, True)
    assert at > max(each for _, _, each in tree.lines())


@pytest.mark.parametrize(
    "names", ["coord", "guard", "coord guard", "keeper guard", "guard keeper", "coord keeper", "keeper coord"]
)
def test_one_that_is_killed(tree: Tree, names: str) -> None:
    """The others end all of the command at once, though its deadline is far."""
    tree.start(lease=1000)
    tree.send(signal.SIGKILL, *names.split())
    killed = now()
    assert tree.end_of_all() < killed + SLACK
    if "coord" not in names:
        status, at, due = tree.report()
        assert (status, due) == (137, False)
        assert at > max(each for _, _, each in tree.lines())
    tree.until(lambda: not tree.alive("keeper", "guard"))


def test_a_keeper_that_is_killed_is_not_missed(tree: Tree) -> None:
    """Coord and the guard end the command by the deadline, and not before."""
    tree.start()
    tree.send(signal.SIGKILL, "keeper")
    killed = now()
    tree.until(lambda: now() > killed + LEASE)
    assert len(tree.alive(*tree.of_cmd)) == 3
    tree.cut()
    assert tree.end_of_all() < tree.deadline() + SLACK
    assert tree.report()[::2] == (137, True)


@pytest.mark.parametrize(
    ("stopped", "killed"), [("coord", "guard"), ("guard", "coord"), ("keeper", "guard"), ("keeper", "coord")]
)
def test_one_stopped_and_one_killed(tree: Tree, stopped: str, killed: str) -> None:
    """The third one ends all of the command at once."""
    tree.start(lease=1000)
    tree.send(signal.SIGSTOP, stopped)
    tree.send(signal.SIGKILL, killed)
    at = now()
    assert tree.end_of_all() < at + SLACK


def test_all_three_killed(tree: Tree) -> None:
    """The kernel kills the command itself."""
    tree.start(lease=1000)
    tree.send(signal.SIGKILL, "coord", "keeper", "guard")
    tree.until(lambda: not tree.alive("cmd"))


@pytest.mark.parametrize("name", ["child", "left"])
def test_a_child_that_is_killed(tree: Tree, name: str) -> None:
    """It is the command's business."""
    tree.start()
    tree.send(signal.SIGKILL, name)
    tree.until(lambda: not tree.alive(name))
    assert len(tree.alive(*tree.of_cmd)) == 2
    tree.cut()
    assert tree.end_of_all() < tree.deadline() + SLACK


def test_what_a_command_leaves_behind_is_ended(tree: Tree) -> None:
    """With SIGTERM, then SIGKILL, before its end is reported."""
    tree.start(lease=1000)
    tree.send(signal.SIGKILL, "cmd")
    killed = now()
    assert killed + LEAVING + NOTICE - 0.1 < tree.end_of_all() < killed + LEAVING + NOTICE + SLACK
    status, at, due = tree.report()
    assert (status, due) == (137, False)
    assert at > max(each for _, _, each in tree.lines())


def test_a_deadline_that_moves(tree: Tree) -> None:
    """The command lives on; it gets SIGTERM in time, and may end by itself."""
    script = STUBBORN.replace("SIG_IGN", "SIG_DFL")
    tree.start(script, names=3)
    begun = now()
    tree.until(lambda: now() > begun + 1.5 * LEASE)
    assert len(tree.alive(*tree.of_cmd)) == 3
    tree.cut()
    assert tree.end_of_all() < tree.deadline() - NOTICE + SLACK / 2
    assert tree.report()[::2] == (143, True)


def test_a_deadline_counts_sleep(tmp_path: Path) -> None:
    """It is a time of the clock that goes on while the machine sleeps; here that is 1,000 s ahead of the other."""
    under = ("unshare", "--time", "--fork", "--boottime", "1000")
    if subprocess.run([*under, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no time namespaces")
    parents = Parents(*under)
    tree = Tree(tmp_path, parents).start()
    tree.send(signal.SIGSTOP, "coord")
    assert tree.end_of_all() > tree.deadline() - SLACK
    tree.send(signal.SIGKILL, "coord")
    parents.end()


def test_a_deadline_that_is_over(tree: Tree) -> None:
    """Nothing runs."""
    tree._parents.start(tree.folder, python(STUBBORN, tree.log), lease=NOTICE / 2)
    assert tree.report()[::2] == (137, True)
    assert not tree.log.exists()


@pytest.mark.parametrize("killed", ["", "coord", "guard", "keeper guard"])
def test_processes_that_run_away(tree: Tree, killed: str) -> None:
    """What forks faster than it is found is ended all the same."""
    tree.start(RUNNING_AWAY, names=1)
    tree.cut()
    if killed:
        tree.send(signal.SIGKILL, *killed.split())
    if "coord" not in killed:
        tree.report()
    tree.until(lambda: not tree.alive("keeper", "guard"))
    words = os.fsencode(str(tree.log))
    for entry in Path("/proc").iterdir():
        with suppress(FileNotFoundError, NotADirectoryError, ProcessLookupError):
            assert not entry.name.isdigit() or words not in (entry / "cmdline").read_bytes()
