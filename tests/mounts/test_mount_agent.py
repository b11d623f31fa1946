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


class Hosts:
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
def hosts(tmp_path: Path) -> Iterator[Hosts]:
    """Yield an empty cluster; afterwards no timer and no watch may be left."""
    hosts = Hosts(tmp_path)
    yield hosts
    hosts.server.refuse = lambda call, key: None
    for agent in hosts.agents:
        result(agent.stop())
        assert result(agent.ended) is None
    assert hosts.clock.getDelayedCalls() == []
    assert hosts.server.watches == []


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


def test_what_is_mounted_at_start_is_announced(hosts: Hosts) -> None:
    """The start's Deferred is called back once both keys stand."""
    table = hosts.table("n1")
    table.mount(ABC, "/dev/sdb1", "ext4")
    hosts.started("n1", table)
    told = {
        "node": "n1",
        "source": "/dev/sdb1",
        "target": ABC,
        "fstype": "ext4",
        "options": "rw,nosuid,size=1k",
    }
    assert hosts.server.latched() == {ABC: told, f"n1:{ABC}": told}


def test_mount_and_unmount(hosts: Hosts) -> None:
    """Mounting fires both keys, unmounting resets them, mounting again fires them again."""
    table = hosts.table("n1")
    agent = hosts.started("n1", table)
    assert hosts.server.latched() == {}
    for _ in range(2):
        table.mount(ABC)
        agent.refresh()
        assert hosts.server.latched().keys() == {ABC, f"n1:{ABC}"}
        table.umount(ABC)
        agent.refresh()
        assert hosts.server.latched() == {}
    assert hosts.server.kinds(ABC) == ["fired", "reset"] * 2


def test_start_waits_for_the_acknowledgement(hosts: Hosts) -> None:
    """No start before the server has answered the last call."""
    table = hosts.table("n1")
    table.mount(ABC)
    hosts.server.held = []
    starting = hosts.agent("n1", table).start()
    hosts.server.answer()
    result(starting)
    assert hosts.server.latched().keys() == {ABC, f"n1:{ABC}"}


def test_leftovers_of_an_earlier_life(hosts: Hosts) -> None:
    """What this node's name announced and is gone is reset at start, and nothing else."""
    table = hosts.table("n1")
    table.mount(ABC)
    table.mount("/mnt/gone")
    hosts.started("n1", table).stop()
    hosts.server.events("n1").fire("ready", "n1")
    hosts.server.events("n2").fire("/mnt/other", {"node": "n2", "target": "/mnt/other"})
    table.umount("/mnt/gone")
    hosts.started("n1", table)
    assert hosts.server.latched().keys() == {ABC, f"n1:{ABC}", "ready", "/mnt/other"}
    assert hosts.server.kinds(ABC) == ["fired"]
    assert hosts.server.kinds("/mnt/gone") == ["fired", "reset"]


def test_replaced_while_away(hosts: Hosts) -> None:
    """Another file system on the same mount point is announced as a new event."""
    table = hosts.table("n1")
    table.mount(ABC, "old")
    agent = hosts.started("n1", table)
    table.mount(ABC, "new")
    agent.refresh()
    assert hosts.server.kinds(ABC) == ["fired", "reset", "fired"]
    told = hosts.server.latched()[ABC]
    assert isinstance(told, dict)
    assert told["source"] == "new"


def test_remounted(hosts: Hosts) -> None:
    """A remount with other options changes the record, once."""
    table = hosts.table("n1")
    table.mount(ABC)
    agent = hosts.started("n1", table)
    for _ in range(2):
        table.mount(ABC, options="ro,nosuid")
        agent.refresh()
        assert hosts.server.kinds(ABC) == hosts.server.kinds(f"n1:{ABC}") == ["fired", "reset", "fired"]
    for key in (ABC, f"n1:{ABC}"):
        told = hosts.server.latched()[key]
        assert isinstance(told, dict)
        assert told["options"] == "ro,nosuid,size=1k"


def test_remounted_while_away(hosts: Hosts) -> None:
    """Options that changed while the agent was not running are announced at its start."""
    table = hosts.table("n1")
    table.mount(ABC)
    hosts.started("n1", table).stop()
    table.mount(ABC, options="ro")
    hosts.started("n1", table)
    assert hosts.server.kinds(ABC) == ["fired", "reset", "fired"]


def test_shared_key_is_taken_over(hosts: Hosts) -> None:
    """When the node that fired a shared key unmounts, another that has it too fires it again."""
    tables = {node: hosts.table(node) for node in ("n1", "n2", "n3")}
    agents = {}
    for node, table in tables.items():
        table.mount(ABC)
        agents[node] = hosts.started(node, table)
    for node in ("n1", "n2"):
        tables[node].umount(ABC)
        agents[node].refresh()
        assert ABC in hosts.server.latched()
        assert f"{node}:{ABC}" not in hosts.server.latched()
    tables["n3"].umount(ABC)
    agents["n3"].refresh()
    assert hosts.server.latched() == {}
    assert hosts.server.kinds(ABC) == ["fired", "reset"] * 3


@pytest.mark.parametrize("key", [ABC, f"n1:{ABC}"])
def test_reset_by_a_user(hosts: Hosts, key: str) -> None:
    """A key that somebody resets while it is mounted is fired again."""
    table = hosts.table("n1")
    table.mount(ABC)
    hosts.started("n1", table)
    result(hosts.server.events("user").reset(key))
    assert hosts.server.kinds(key) == ["fired", "reset", "fired"]


def test_failed_by_a_user(hosts: Hosts) -> None:
    """A key that somebody failed is latched: it is left alone until it is reset."""
    table = hosts.table("n1")
    user = hosts.server.events("user")
    result(user.fail(ABC, "disk on fire"))
    agent = hosts.started("n1", table)
    table.mount(ABC)
    agent.refresh()
    assert hosts.server.latched()[ABC] == "disk on fire"
    table.umount(ABC)
    agent.refresh()
    assert hosts.server.latched() == {ABC: "disk on fire"}
    table.mount(ABC)
    agent.refresh()
    result(user.reset(ABC))
    assert hosts.server.kinds(ABC) == ["failed", "reset", "fired"]


def test_server_comes_back_empty(hosts: Hosts) -> None:
    """After a flush what stands is read anew, and all that is mounted is announced again."""
    table = hosts.table("n1")
    table.mount(ABC)
    hosts.started("n1", table)
    hosts.server.flush()
    assert hosts.server.latched() == {}
    hosts.clock.advance(1)
    assert hosts.server.latched().keys() == {ABC, f"n1:{ABC}"}
    result(hosts.server.events("user").reset(ABC))
    assert ABC in hosts.server.latched()


@pytest.mark.parametrize("error", [errors.Unreachable, errors.Unconfirmed, errors.ServerRefused, errors.AccessDenied])
def test_calls_that_fail_are_made_again(hosts: Hosts, error: type[errors.Error], log: list[str]) -> None:
    """What could not be announced is planned again after pauses of at most ten seconds."""
    table = hosts.table("n1")
    agent = hosts.started("n1", table)
    hosts.server.refuse = lambda call, key: error("not now")
    table.mount(ABC)
    agent.refresh()
    for _ in range(20):
        hosts.clock.advance(10)
    fires = hosts.server.calls.count(("fire", ABC))
    assert 15 < fires < 30
    assert sum("not now" in line for line in log) == 1
    hosts.server.refuse = lambda call, key: None
    hosts.clock.advance(10)
    assert hosts.server.latched().keys() == {ABC, f"n1:{ABC}"}
    (look,) = hosts.clock.getDelayedCalls()
    assert look.time <= hosts.clock.seconds() + 10


def test_start_waits_for_a_server_that_is_away(hosts: Hosts) -> None:
    """An unreachable server is waited for, and nothing is announced twice."""
    table = hosts.table("n1")
    table.mount(ABC)
    hosts.server.refuse = lambda call, key: errors.Unreachable()
    starting = hosts.agent("n1", table).start()
    hosts.clock.pump([1] * 60)
    assert not starting.called
    hosts.server.refuse = lambda call, key: None
    hosts.clock.advance(10)
    result(starting)
    assert hosts.server.kinds(ABC) == ["fired"]


@pytest.mark.parametrize("denied", ["records", "fire"])
def test_access_denied_at_start(hosts: Hosts, denied: str) -> None:
    """A server that does not let the agent in ends it: the start's Deferred says so."""
    table = hosts.table("n1")
    table.mount(ABC)
    hosts.server.refuse = lambda call, key: errors.AccessDenied() if call == denied else None
    starting = hosts.agent("n1", table).start()
    with pytest.raises(errors.AccessDenied):
        result(starting)


def test_closed_coordinator(hosts: Hosts) -> None:
    """When the coordinator is closed the agent ends, quietly once it had started."""
    table = hosts.table("n1")
    running = hosts.started("n1", table)
    hosts.server.refuse = lambda call, key: errors.Closed()
    with pytest.raises(errors.Closed):
        result(hosts.agent("n2", table).start())
    for watch in list(hosts.server.watches):
        watch.end(errors.Closed())
    assert running.ended.called


def test_values_and_records_that_cannot_be(hosts: Hosts, log: list[str]) -> None:
    """A key whose value is refused or whose record is junk is left out, said once, others go on."""
    table = hosts.table("n1")
    table.mount("/big", source="x" * 70_000)
    table.mount("/junk")
    table.mount(ABC)
    hosts.server.refuse = lambda call, key: errors.CorruptRecord() if key == "/junk" else None
    agent = hosts.started("n1", table)
    assert hosts.server.latched().keys() == {ABC, f"n1:{ABC}", "n1:/junk"}
    table.mount("/more")
    agent.refresh()
    assert sum("/junk is not announced" in line for line in log) == 1
    table.mount("/big", source="small")
    agent.refresh()
    assert "/big" in hosts.server.latched()
    # Somebody repairs it: the watch shows a record of it.
    hosts.server.refuse = lambda call, key: None
    user = hosts.server.events("user")
    result(user.fire("/junk"))
    result(user.reset("/junk"))
    assert hosts.server.kinds("/junk") == ["fired", "reset", "fired"]


def test_mount_points_that_cannot_be_keys(hosts: Hosts, log: list[str]) -> None:
    """A mount point that cannot be a key is left out, and said once."""
    table = hosts.table("n1")
    for target in ("/bad\udcff", "/" + "x" * 512, "/a\nb"):
        table.mount(target)
    agent = hosts.started("n1", table)
    table.mount(ABC)
    agent.refresh()
    assert hosts.server.latched().keys() == {ABC, f"n1:{ABC}"}
    assert sum("is not announced" in line for line in log) == 3


def test_changes_during_a_round(hosts: Hosts) -> None:
    """What changes while calls are under way is acted on when they are answered."""
    table = hosts.table("n1")
    agent = hosts.started("n1", table)
    hosts.server.held = []
    table.mount(ABC)
    agent.refresh()
    table.umount(ABC)
    table.mount("/mnt/b")
    agent.refresh()
    hosts.server.answer()
    assert hosts.server.latched().keys() == {"/mnt/b", "n1:/mnt/b"}


def test_only(hosts: Hosts) -> None:
    """With patterns only these are announced; a restart with others takes back nothing."""
    table = hosts.table("n1")
    table.mount(ABC)
    table.mount("/data/x")
    hosts.started("n1", table, ("/data/*",))
    assert hosts.server.latched().keys() == {"/data/x", "n1:/data/x"}
    hosts.started("n1", table, ("/mnt/*",))
    assert hosts.server.latched().keys() == {"/data/x", "n1:/data/x", ABC, f"n1:{ABC}"}


def test_two_hosts_of_one_name(hosts: Hosts, log: list[str]) -> None:
    """Agents that contradict each other under one name slow down, and both say so, once."""
    there, here = hosts.table("there"), hosts.table("here")
    there.mount(ABC)
    hosts.started("n1", there)
    hosts.started("n1", here)
    hosts.clock.pump([0.05] * 200)
    before = len(hosts.server.history)
    hosts.clock.pump([1] * 100)
    assert len(hosts.server.history) - before < 100
    there.mount("/mnt/more")
    hosts.agents[0].refresh()
    hosts.clock.pump([1] * 100)
    assert sum("another host announces as n1" in line for line in log) == 2


def test_two_hosts_of_one_name_with_other_options(hosts: Hosts, log: list[str]) -> None:
    """A dispute about options alone, as between a host and its container, is one too."""
    there, here = hosts.table("there"), hosts.table("here")
    there.mount(ABC)
    here.mount(ABC, options="ro")
    hosts.started("n1", there)
    hosts.started("n1", here)
    hosts.clock.pump([0.05] * 200)
    assert sum("another host announces as n1" in line for line in log) == 2


def test_a_loop_that_resets(hosts: Hosts, log: list[str]) -> None:
    """A user's loop that resets a node's own key is said too, and again after it had stopped."""
    table = hosts.table("n1")
    table.mount(ABC)
    hosts.started("n1", table)
    user = hosts.server.events("user")
    for _ in range(2):
        for _ in range(30):
            hosts.clock.advance(1)
            user.reset(f"n1:{ABC}")
        hosts.clock.advance(100)
        assert f"n1:{ABC}" in hosts.server.latched()
    assert sum("is changed again and again by others" in line for line in log) == 2


def test_what_is_no_dispute(hosts: Hosts, log: list[str]) -> None:
    """Shared keys that others reset, a reset now and then, and a server that is away are no dispute."""
    table = hosts.table("n1")
    table.mount(ABC)
    agent = hosts.started("n1", table)
    user = hosts.server.events("user")
    for _ in range(50):
        user.reset(ABC)
        hosts.clock.advance(11)
    for _ in range(50):
        hosts.clock.advance(3600)
        user.reset(f"n1:{ABC}")
        assert f"n1:{ABC}" in hosts.server.latched()
    hosts.server.refuse = lambda call, key: errors.Unreachable("away")
    table.umount(ABC)
    agent.refresh()
    hosts.clock.pump([10] * 50)
    hosts.server.refuse = lambda call, key: None
    hosts.clock.advance(10)
    assert hosts.server.latched() == {}
    assert not any("again and again" in line for line in log)


def test_stop_leaves_the_keys(hosts: Hosts) -> None:
    """A stop leaves the keys as they are; after it nothing is followed."""
    table = hosts.table("n1")
    table.mount(ABC)
    agent = hosts.started("n1", table)
    result(agent.stop())
    result(hosts.server.events("user").reset(ABC))
    assert hosts.server.latched().keys() == {f"n1:{ABC}"}


def test_stop_with_reset(hosts: Hosts) -> None:
    """A stop with reset takes this node's keys back; a shared one passes to whoever has it too."""
    tables = {node: hosts.table(node) for node in ("n1", "n2")}
    for table in tables.values():
        table.mount(ABC)
    tables["n1"].mount("/mnt/mine")
    agent = hosts.started("n1", tables["n1"])
    hosts.started("n2", tables["n2"])
    result(agent.stop(reset=True))
    assert hosts.server.latched().keys() == {ABC, f"n2:{ABC}"}
    result(agent.stop(reset=True))


def test_stop_with_reset_waits_for_calls_under_way(hosts: Hosts) -> None:
    """A fire that is under way is applied first, and then taken back too."""
    table = hosts.table("n1")
    agent = hosts.started("n1", table)
    hosts.server.held = []
    table.mount(ABC)
    agent.refresh()
    stopping = agent.stop(reset=True)
    assert not stopping.called
    hosts.server.answer()
    result(stopping)
    assert hosts.server.kinds(ABC) == ["fired", "reset"]


def test_stop_with_reset_that_fails(hosts: Hosts) -> None:
    """A stop that cannot take its keys back says why, and can be tried again."""
    table = hosts.table("n1")
    table.mount(ABC)
    agent = hosts.started("n1", table)
    hosts.server.refuse = lambda call, key: errors.Unreachable() if call == "reset" else None
    with pytest.raises(errors.Unreachable):
        result(agent.stop(reset=True))
    hosts.server.refuse = lambda call, key: None
    result(agent.stop(reset=True))
    assert hosts.server.latched() == {}


@pytest.mark.parametrize("reset", [False, True])
def test_stop_while_it_pauses(hosts: Hosts, reset: bool) -> None:
    """A stop in the pause before the next try ends at once and leaves no timer."""
    table = hosts.table("n1")
    agent = hosts.started("n1", table)
    hosts.server.refuse = lambda call, key: errors.Unreachable() if call == "fire" else None
    table.mount(ABC)
    agent.refresh()
    assert len(hosts.clock.getDelayedCalls()) == 2
    result(agent.stop(reset=reset))


def test_stop_before_the_start_ends(hosts: Hosts) -> None:
    """No start is left hanging: stopped first, it errbacks Closed; cancelled, CancelledError."""
    table = hosts.table("n1")
    hosts.server.held = []
    agent = hosts.agent("n1", table)
    starting = agent.start()
    result(agent.stop())
    with pytest.raises(errors.Closed):
        result(starting)
    starting = hosts.agent("n1", table).start()
    starting.cancel()
    with pytest.raises(CancelledError):
        result(starting)
    with pytest.raises(RuntimeError, match="once"):
        agent.start()


def test_tables_that_cannot_be_read(hosts: Hosts, tmp_path: Path) -> None:
    """A missing file, a folder, and a file of something else each fail the start."""
    for path, error in (
        (tmp_path / "no", OSError),
        (tmp_path, OSError),
        (tmp_path / "x", ValueError),
    ):
        (tmp_path / "x").write_text("127.0.0.1 localhost\n")
        events = hosts.server.events("n1")
        agent = MountAgent(events, "n1", mountinfo=path, reactor=hosts.clock)
        with pytest.raises(error):
            result(agent.start())
        assert not agent.live
    assert hosts.server.calls == []


def test_a_table_that_cannot_be_read_any_more(hosts: Hosts, log: list[str]) -> None:
    """A table that turned into something else withdraws nothing: what it said before holds."""
    table = hosts.table("n1")
    table.mount(ABC)
    agent = hosts.started("n1", table)
    table.path.write_text("garbage\n")
    agent.refresh()
    agent.refresh()
    assert hosts.server.latched().keys() == {ABC, f"n1:{ABC}"}
    assert sum("garbage" in line for line in log) == 1


def test_a_copy_is_read_every_ten_seconds(hosts: Hosts) -> None:
    """A regular file, also one that took the place of the first, is noticed without `refresh`."""
    table = hosts.table("n1")
    hosts.started("n1", table)
    table.mount(ABC)
    hosts.clock.advance(9.9)
    assert hosts.server.latched() == {}
    hosts.clock.advance(0.1)
    assert hosts.server.latched().keys() == {ABC, f"n1:{ABC}"}
    another = hosts.table("another")
    another.path.replace(table.path)
    hosts.clock.advance(10)
    assert hosts.server.latched() == {}


def test_a_copy_that_is_removed(hosts: Hosts, log: list[str]) -> None:
    """Without the file the last contents count, which is logged once; it may come back."""
    table = hosts.table("n1")
    table.mount(ABC)
    hosts.started("n1", table)
    table.path.unlink()
    hosts.clock.pump([10] * 3)
    assert hosts.server.latched().keys() == {ABC, f"n1:{ABC}"}
    assert sum("No such file or directory; its last contents still count" in line for line in log) == 1
    hosts.table("n1")
    hosts.clock.advance(10)
    assert hosts.server.latched() == {}


def test_something_unforeseen(hosts: Hosts, tmp_path: Path) -> None:
    """A bug below does not pass unnoticed: `ended` errbacks with it."""
    table = hosts.table("n1")
    events = hosts.server.events("n1")
    agent = MountAgent(events, "n1", mountinfo=table.path, reactor=hosts.clock)
    result(agent.start())
    hosts.server.refuse = lambda call, key: ZeroDivisionError()
    table.mount(ABC)
    agent.refresh()
    with pytest.raises(ZeroDivisionError):
        result(agent.ended)
