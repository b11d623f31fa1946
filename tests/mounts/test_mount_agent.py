"""The mount agent on a map in memory, a clock of our own and a mount table that is a file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar, cast

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from twisted.python.failure import Failure

from coord import errors
from coord.mounts.agent import MountAgent
from coord.mounts.selection import Selection
from mounts.mount_fakes import Server, Table

T = TypeVar("T")
ABC = "/mnt/abc"


def result(deferred: Deferred[T]) -> T:
    """Answer what a Deferred was called back with; raise what it was errbacked with."""
    outcome: list[T | Failure] = []
    deferred.addBoth(outcome.append)
    assert outcome, "still waiting"
    if isinstance(outcome[0], Failure):
        assert outcome[0].value is not None
        raise outcome[0].value
    return outcome[0]


class Cluster:
    """Nodes with tables of their own on one map."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = Clock()
        self.server = Server()
        self.agents: list[MountAgent] = []

    def table(self, node: str) -> Table:
        """Make a node's mount table."""
        return Table(self.folder / node)

    def agent(self, node: str, table: Table, only: tuple[str, ...] = ()) -> MountAgent:
        """Make an agent."""
        events = self.server.events(node)
        agent = MountAgent(events, node, mountinfo=table.path, selection=Selection(only), reactor=self.clock)
        self.agents.append(agent)
        return agent

    def started(self, node: str, table: Table, only: tuple[str, ...] = ()) -> MountAgent:
        """Make an agent and start it."""
        agent = self.agent(node, table, only)
        result(agent.start())
        return agent


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Yield an empty cluster; afterwards no timer and no watch may be left."""
    cluster = Cluster(tmp_path)
    yield cluster
    cluster.server.refuse = lambda call, key: None
    for agent in cluster.agents:
        result(agent.stop())
        assert result(agent.ended) is None
    assert cluster.clock.getDelayedCalls() == []
    assert cluster.server.watches == []


@pytest.fixture
def log() -> Iterator[list[str]]:
    """Yield what is logged, as it is logged."""
    lines: list[str] = []

    def observe(event: LogEvent) -> None:
        lines.append(formatEvent(event))

    observer = cast(ILogObserver, observe)
    globalLogPublisher.addObserver(observer)
    yield lines
    globalLogPublisher.removeObserver(observer)


def test_what_is_mounted_at_start_is_announced(cluster: Cluster) -> None:
    """The start's Deferred is called back once both keys stand."""
    table = cluster.table("n1")
    table.mount(ABC, "/dev/sdb1", "ext4")
    cluster.started("n1", table)
    told = {
        "node": "n1",
        "source": "/dev/sdb1",
        "target": ABC,
        "fstype": "ext4",
        "options": "rw,nosuid,size=1k",
    }
    assert cluster.server.latched() == {ABC: told, f"n1:{ABC}": told}


def test_mount_and_unmount(cluster: Cluster) -> None:
    """Mounting fires both keys, unmounting resets them, mounting again fires them again."""
    table = cluster.table("n1")
    agent = cluster.started("n1", table)
    assert cluster.server.latched() == {}
    for _ in range(2):
        table.mount(ABC)
        agent.refresh()
        assert cluster.server.latched().keys() == {ABC, f"n1:{ABC}"}
        table.umount(ABC)
        agent.refresh()
        assert cluster.server.latched() == {}
    assert cluster.server.kinds(ABC) == ["fired", "reset"] * 2


def test_start_waits_for_the_acknowledgement(cluster: Cluster) -> None:
    """No start before the server has answered the last call."""
    table = cluster.table("n1")
    table.mount(ABC)
    cluster.server.held = []
    starting = cluster.agent("n1", table).start()
    cluster.server.answer()
    result(starting)
    assert cluster.server.latched().keys() == {ABC, f"n1:{ABC}"}


def test_leftovers_of_an_earlier_life(cluster: Cluster) -> None:
    """What this node's name announced and is gone is reset at start, and nothing else."""
    table = cluster.table("n1")
    table.mount(ABC)
    table.mount("/mnt/gone")
    cluster.started("n1", table).stop()
    cluster.server.events("n1").fire("ready", "n1")
    cluster.server.events("n2").fire("/mnt/other", {"node": "n2", "target": "/mnt/other"})
    table.umount("/mnt/gone")
    cluster.started("n1", table)
    assert cluster.server.latched().keys() == {ABC, f"n1:{ABC}", "ready", "/mnt/other"}
    assert cluster.server.kinds(ABC) == ["fired"]
    assert cluster.server.kinds("/mnt/gone") == ["fired", "reset"]


def test_replaced_while_away(cluster: Cluster) -> None:
    """Another file system on the same mount point is announced as a new event."""
    table = cluster.table("n1")
    table.mount(ABC, "old")
    agent = cluster.started("n1", table)
    table.mount(ABC, "new")
    agent.refresh()
    assert cluster.server.kinds(ABC) == ["fired", "reset", "fired"]
    told = cluster.server.latched()[ABC]
    assert isinstance(told, dict)
    assert told["source"] == "new"


def test_remounted(cluster: Cluster) -> None:
    """A remount with other options changes the record, once."""
    table = cluster.table("n1")
    table.mount(ABC)
    agent = cluster.started("n1", table)
    for _ in range(2):
        table.mount(ABC, options="ro,nosuid")
        agent.refresh()
        assert cluster.server.kinds(ABC) == cluster.server.kinds(f"n1:{ABC}") == ["fired", "reset", "fired"]
    for key in (ABC, f"n1:{ABC}"):
        told = cluster.server.latched()[key]
        assert isinstance(told, dict)
        assert told["options"] == "ro,nosuid,size=1k"


def test_remounted_while_away(cluster: Cluster) -> None:
    """Options that changed while the agent was not running are announced at its start."""
    table = cluster.table("n1")
    table.mount(ABC)
    cluster.started("n1", table).stop()
    table.mount(ABC, options="ro")
    cluster.started("n1", table)
    assert cluster.server.kinds(ABC) == ["fired", "reset", "fired"]


def test_shared_key_is_taken_over(cluster: Cluster) -> None:
    """When the node that fired a shared key unmounts, another that has it too fires it again."""
    tables = {node: cluster.table(node) for node in ("n1", "n2", "n3")}
    agents = {}
    for node, table in tables.items():
        table.mount(ABC)
        agents[node] = cluster.started(node, table)
    for node in ("n1", "n2"):
        tables[node].umount(ABC)
        agents[node].refresh()
        assert ABC in cluster.server.latched()
        assert f"{node}:{ABC}" not in cluster.server.latched()
    tables["n3"].umount(ABC)
    agents["n3"].refresh()
    assert cluster.server.latched() == {}
    assert cluster.server.kinds(ABC) == ["fired", "reset"] * 3


@pytest.mark.parametrize("key", [ABC, f"n1:{ABC}"])
def test_reset_by_a_user(cluster: Cluster, key: str) -> None:
    """A key that somebody resets while it is mounted is fired again."""
    table = cluster.table("n1")
    table.mount(ABC)
    cluster.started("n1", table)
    result(cluster.server.events("user").reset(key))
    assert cluster.server.kinds(key) == ["fired", "reset", "fired"]


def test_failed_by_a_user(cluster: Cluster) -> None:
    """A key that somebody failed is latched: it is left alone until it is reset."""
    table = cluster.table("n1")
    user = cluster.server.events("user")
    result(user.fail(ABC, "disk on fire"))
    agent = cluster.started("n1", table)
    table.mount(ABC)
    agent.refresh()
    assert cluster.server.latched()[ABC] == "disk on fire"
    table.umount(ABC)
    agent.refresh()
    assert cluster.server.latched() == {ABC: "disk on fire"}
    table.mount(ABC)
    agent.refresh()
    result(user.reset(ABC))
    assert cluster.server.kinds(ABC) == ["failed", "reset", "fired"]


def test_server_comes_back_empty(cluster: Cluster) -> None:
    """After a flush what stands is read anew, and all that is mounted is announced again."""
    table = cluster.table("n1")
    table.mount(ABC)
    cluster.started("n1", table)
    cluster.server.flush()
    assert cluster.server.latched() == {}
    cluster.clock.advance(1)
    assert cluster.server.latched().keys() == {ABC, f"n1:{ABC}"}
    result(cluster.server.events("user").reset(ABC))
    assert ABC in cluster.server.latched()


@pytest.mark.parametrize("error", [errors.Unreachable, errors.Unconfirmed, errors.ServerRefused, errors.AccessDenied])
def test_calls_that_fail_are_made_again(cluster: Cluster, error: type[errors.Error], log: list[str]) -> None:
    """What could not be announced is planned again after pauses of at most ten seconds."""
    table = cluster.table("n1")
    agent = cluster.started("n1", table)
    cluster.server.refuse = lambda call, key: error("not now")
    table.mount(ABC)
    agent.refresh()
    for _ in range(20):
        cluster.clock.advance(10)
    fires = cluster.server.calls.count(("fire", ABC))
    assert 15 < fires < 30
    assert sum("not now" in line for line in log) == 1
    cluster.server.refuse = lambda call, key: None
    cluster.clock.advance(10)
    assert cluster.server.latched().keys() == {ABC, f"n1:{ABC}"}
    (look,) = cluster.clock.getDelayedCalls()
    assert look.time <= cluster.clock.seconds() + 10


def test_start_waits_for_a_server_that_is_away(cluster: Cluster) -> None:
    """An unreachable server is waited for, and nothing is announced twice."""
    table = cluster.table("n1")
    table.mount(ABC)
    cluster.server.refuse = lambda call, key: errors.Unreachable()
    starting = cluster.agent("n1", table).start()
    cluster.clock.pump([1] * 60)
    assert not starting.called
    cluster.server.refuse = lambda call, key: None
    cluster.clock.advance(10)
    result(starting)
    assert cluster.server.kinds(ABC) == ["fired"]


@pytest.mark.parametrize("denied", ["records", "fire"])
def test_access_denied_at_start(cluster: Cluster, denied: str) -> None:
    """A server that does not let the agent in ends it: the start's Deferred says so."""
    table = cluster.table("n1")
    table.mount(ABC)
    cluster.server.refuse = lambda call, key: errors.AccessDenied() if call == denied else None
    starting = cluster.agent("n1", table).start()
    with pytest.raises(errors.AccessDenied):
        result(starting)


def test_closed_coordinator(cluster: Cluster) -> None:
    """When the coordinator is closed the agent ends, quietly once it had started."""
    table = cluster.table("n1")
    running = cluster.started("n1", table)
    cluster.server.refuse = lambda call, key: errors.Closed()
    with pytest.raises(errors.Closed):
        result(cluster.agent("n2", table).start())
    for watch in list(cluster.server.watches):
        watch.end(errors.Closed())
    assert running.ended.called


def test_values_and_records_that_cannot_be(cluster: Cluster, log: list[str]) -> None:
    """A key whose value is refused or whose record is junk is left out, said once, others go on."""
    table = cluster.table("n1")
    table.mount("/big", source="x" * 70_000)
    table.mount("/junk")
    table.mount(ABC)
    cluster.server.refuse = lambda call, key: errors.CorruptRecord() if key == "/junk" else None
    agent = cluster.started("n1", table)
    assert cluster.server.latched().keys() == {ABC, f"n1:{ABC}", "n1:/junk"}
    table.mount("/more")
    agent.refresh()
    assert sum("/junk is not announced" in line for line in log) == 1
    table.mount("/big", source="small")
    agent.refresh()
    assert "/big" in cluster.server.latched()
    # Somebody repairs it: the watch shows a record of it.
    cluster.server.refuse = lambda call, key: None
    user = cluster.server.events("user")
    result(user.fire("/junk"))
    result(user.reset("/junk"))
    assert cluster.server.kinds("/junk") == ["fired", "reset", "fired"]


def test_mount_points_that_cannot_be_keys(cluster: Cluster, log: list[str]) -> None:
    """A mount point that cannot be a key is left out, and said once."""
    table = cluster.table("n1")
    for target in ("/bad\udcff", "/" + "x" * 512, "/a\nb"):
        table.mount(target)
    agent = cluster.started("n1", table)
    table.mount(ABC)
    agent.refresh()
    assert cluster.server.latched().keys() == {ABC, f"n1:{ABC}"}
    assert sum("is not announced" in line for line in log) == 3


def test_changes_during_a_round(cluster: Cluster) -> None:
    """What changes while calls are under way is acted on when they are answered."""
    table = cluster.table("n1")
    agent = cluster.started("n1", table)
    cluster.server.held = []
    table.mount(ABC)
    agent.refresh()
    table.umount(ABC)
    table.mount("/mnt/b")
    agent.refresh()
    cluster.server.answer()
    assert cluster.server.latched().keys() == {"/mnt/b", "n1:/mnt/b"}


def test_only(cluster: Cluster) -> None:
    """With patterns only these are announced; a restart with others takes back nothing."""
    table = cluster.table("n1")
    table.mount(ABC)
    table.mount("/data/x")
    cluster.started("n1", table, ("/data/*",))
    assert cluster.server.latched().keys() == {"/data/x", "n1:/data/x"}
    cluster.started("n1", table, ("/mnt/*",))
    assert cluster.server.latched().keys() == {"/data/x", "n1:/data/x", ABC, f"n1:{ABC}"}


def test_two_hosts_of_one_name(cluster: Cluster, log: list[str]) -> None:
    """Agents that contradict each other under one name slow down, and both say so, once."""
    there, here = cluster.table("there"), cluster.table("here")
    there.mount(ABC)
    cluster.started("n1", there)
    cluster.started("n1", here)
    cluster.clock.pump([0.05] * 200)
    before = len(cluster.server.history)
    cluster.clock.pump([1] * 100)
    assert len(cluster.server.history) - before < 100
    there.mount("/mnt/more")
    cluster.agents[0].refresh()
    cluster.clock.pump([1] * 100)
    assert sum("another host announces as n1" in line for line in log) == 2


def test_two_hosts_of_one_name_with_other_options(cluster: Cluster, log: list[str]) -> None:
    """A dispute about options alone, as between a host and its container, is one too."""
    there, here = cluster.table("there"), cluster.table("here")
    there.mount(ABC)
    here.mount(ABC, options="ro")
    cluster.started("n1", there)
    cluster.started("n1", here)
    cluster.clock.pump([0.05] * 200)
    assert sum("another host announces as n1" in line for line in log) == 2


def test_a_loop_that_resets(cluster: Cluster, log: list[str]) -> None:
    """A user's loop that resets a node's own key is said too, and again after it had stopped."""
    table = cluster.table("n1")
    table.mount(ABC)
    cluster.started("n1", table)
    user = cluster.server.events("user")
    for _ in range(2):
        for _ in range(30):
            cluster.clock.advance(1)
            user.reset(f"n1:{ABC}")
        cluster.clock.advance(100)
        assert f"n1:{ABC}" in cluster.server.latched()
    assert sum("is changed again and again by others" in line for line in log) == 2


def test_what_is_no_dispute(cluster: Cluster, log: list[str]) -> None:
    """Shared keys that others reset, a reset now and then, and a server that is away are no dispute."""
    table = cluster.table("n1")
    table.mount(ABC)
    agent = cluster.started("n1", table)
    user = cluster.server.events("user")
    for _ in range(50):
        user.reset(ABC)
        cluster.clock.advance(11)
    for _ in range(50):
        cluster.clock.advance(3600)
        user.reset(f"n1:{ABC}")
        assert f"n1:{ABC}" in cluster.server.latched()
    cluster.server.refuse = lambda call, key: errors.Unreachable("away")
    table.umount(ABC)
    agent.refresh()
    cluster.clock.pump([10] * 50)
    cluster.server.refuse = lambda call, key: None
    cluster.clock.advance(10)
    assert cluster.server.latched() == {}
    assert not any("again and again" in line for line in log)


def test_stop_leaves_the_keys(cluster: Cluster) -> None:
    """A stop leaves the keys as they are; after it nothing is followed."""
    table = cluster.table("n1")
    table.mount(ABC)
    agent = cluster.started("n1", table)
    result(agent.stop())
    result(cluster.server.events("user").reset(ABC))
    assert cluster.server.latched().keys() == {f"n1:{ABC}"}


def test_stop_with_reset(cluster: Cluster) -> None:
    """A stop with reset takes this node's keys back; a shared one passes to whoever has it too."""
    tables = {node: cluster.table(node) for node in ("n1", "n2")}
    for table in tables.values():
        table.mount(ABC)
    tables["n1"].mount("/mnt/mine")
    agent = cluster.started("n1", tables["n1"])
    cluster.started("n2", tables["n2"])
    result(agent.stop(reset=True))
    assert cluster.server.latched().keys() == {ABC, f"n2:{ABC}"}
    result(agent.stop(reset=True))


def test_stop_with_reset_waits_for_calls_under_way(cluster: Cluster) -> None:
    """A fire that is under way is applied first, and then taken back too."""
    table = cluster.table("n1")
    agent = cluster.started("n1", table)
    cluster.server.held = []
    table.mount(ABC)
    agent.refresh()
    stopping = agent.stop(reset=True)
    assert not stopping.called
    cluster.server.answer()
    result(stopping)
    assert cluster.server.kinds(ABC) == ["fired", "reset"]


def test_stop_with_reset_that_fails(cluster: Cluster) -> None:
    """A stop that cannot take its keys back says why, and can be tried again."""
    table = cluster.table("n1")
    table.mount(ABC)
    agent = cluster.started("n1", table)
    cluster.server.refuse = lambda call, key: errors.Unreachable() if call == "reset" else None
    with pytest.raises(errors.Unreachable):
        result(agent.stop(reset=True))
    cluster.server.refuse = lambda call, key: None
    result(agent.stop(reset=True))
    assert cluster.server.latched() == {}


@pytest.mark.parametrize("reset", [False, True])
def test_stop_while_it_pauses(cluster: Cluster, reset: bool) -> None:
    """A stop in the pause before the next try ends at once and leaves no timer."""
    table = cluster.table("n1")
    agent = cluster.started("n1", table)
    cluster.server.refuse = lambda call, key: errors.Unreachable() if call == "fire" else None
    table.mount(ABC)
    agent.refresh()
    assert len(cluster.clock.getDelayedCalls()) == 2
    result(agent.stop(reset=reset))


def test_stop_before_the_start_ends(cluster: Cluster) -> None:
    """No start is left hanging: stopped first, it errbacks Closed; cancelled, CancelledError."""
    table = cluster.table("n1")
    cluster.server.held = []
    agent = cluster.agent("n1", table)
    starting = agent.start()
    result(agent.stop())
    with pytest.raises(errors.Closed):
        result(starting)
    starting = cluster.agent("n1", table).start()
    starting.cancel()
    with pytest.raises(CancelledError):
        result(starting)
    with pytest.raises(RuntimeError, match="once"):
        agent.start()


def test_tables_that_cannot_be_read(cluster: Cluster, tmp_path: Path) -> None:
    """A missing file, a folder, and a file of something else each fail the start."""
    for path, error in (
        (tmp_path / "no", OSError),
        (tmp_path, OSError),
        (tmp_path / "x", ValueError),
    ):
        (tmp_path / "x").write_text("127.0.0.1 localhost\n")
        events = cluster.server.events("n1")
        agent = MountAgent(events, "n1", mountinfo=path, reactor=cluster.clock)
        with pytest.raises(error):
            result(agent.start())
        assert not agent.live
    assert cluster.server.calls == []


def test_a_table_that_cannot_be_read_any_more(cluster: Cluster, log: list[str]) -> None:
    """A table that turned into something else withdraws nothing: what it said before holds."""
    table = cluster.table("n1")
    table.mount(ABC)
    agent = cluster.started("n1", table)
    table.path.write_text("garbage\n")
    agent.refresh()
    agent.refresh()
    assert cluster.server.latched().keys() == {ABC, f"n1:{ABC}"}
    assert sum("garbage" in line for line in log) == 1


def test_a_copy_is_read_every_ten_seconds(cluster: Cluster) -> None:
    """A regular file, also one that took the place of the first, is noticed without `refresh`."""
    table = cluster.table("n1")
    cluster.started("n1", table)
    table.mount(ABC)
    cluster.clock.advance(9.9)
    assert cluster.server.latched() == {}
    cluster.clock.advance(0.1)
    assert cluster.server.latched().keys() == {ABC, f"n1:{ABC}"}
    another = cluster.table("another")
    another.path.replace(table.path)
    cluster.clock.advance(10)
    assert cluster.server.latched() == {}


def test_a_copy_that_is_removed(cluster: Cluster, log: list[str]) -> None:
    """Without the file the last contents count, which is logged once; it may come back."""
    table = cluster.table("n1")
    table.mount(ABC)
    cluster.started("n1", table)
    table.path.unlink()
    cluster.clock.pump([10] * 3)
    assert cluster.server.latched().keys() == {ABC, f"n1:{ABC}"}
    assert sum("No such file or directory; its last contents still count" in line for line in log) == 1
    cluster.table("n1")
    cluster.clock.advance(10)
    assert cluster.server.latched() == {}


def test_something_unforeseen(cluster: Cluster, tmp_path: Path) -> None:
    """A bug below does not pass unnoticed: `ended` errbacks with it."""
    table = cluster.table("n1")
    events = cluster.server.events("n1")
    agent = MountAgent(events, "n1", mountinfo=table.path, reactor=cluster.clock)
    result(agent.start())
    cluster.server.refuse = lambda call, key: ZeroDivisionError()
    table.mount(ABC)
    agent.refresh()
    with pytest.raises(ZeroDivisionError):
        result(agent.ended)
