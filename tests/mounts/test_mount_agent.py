"""The mount agent on a cluster in memory, a clock of our own and a mount table that is a file."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar, cast

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher

from coord import Coordinator, EventMap, Json, Kind, errors
from coord.mounts.agent import MountAgent
from coord.mounts.selection import Selection
from memory import Cluster
from mounts.mount_fakes import Refusing, Table, history, latched

T = TypeVar("T")
ABC = "/mnt/abc"
BOTH = {ABC, f"n1:{ABC}"}


class Hosts:
    """Nodes with tables of their own on one map."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cluster = Cluster()
        self.server = self.cluster.server
        self.agents: list[MountAgent] = []
        self.user = self.cluster.node("user").events("mount")

    def table(self, node: str) -> Table:
        """Make a node's mount table."""
        return Table(self.folder / node)

    def agent(self, node: str, table: Table, only: tuple[str, ...] = (), **options: Any) -> MountAgent:
        """Make an agent with a coordinator of its own."""
        return self.agent_on(self.cluster.node(node, **options).events("mount"), table, only)

    def agent_on(self, events: EventMap | Refusing, table: Table, only: tuple[str, ...] = ()) -> MountAgent:
        """Make an agent on this map."""
        real = events.events if isinstance(events, Refusing) else events
        agent = MountAgent(
            cast(EventMap, events),
            self.node_of(real).node,
            mountinfo=table.path,
            selection=Selection(only),
            reactor=self.cluster.clock,
        )
        self.agents.append(agent)
        return agent

    def node_of(self, events: EventMap) -> Coordinator:
        """Return the node of a map."""
        return next(node for node in self.cluster.nodes if node.events("mount") is events)

    def started(self, node: str, table: Table, only: tuple[str, ...] = (), **options: Any) -> MountAgent:
        """Make an agent and start it."""
        agent = self.agent(node, table, only, **options)
        self.result(agent.start())
        return agent

    def stopped(self, agent: MountAgent) -> None:
        """End an agent and its node, as ``coord mounts`` does; its lease is left."""
        node = self.cluster.nodes[1 + self.agents.index(agent)]
        self.result(agent.stop())
        self.result(node.close(withdraw=False))

    def result(self, deferred: Deferred[T]) -> T:
        """Return what a Deferred was called back with; raise what it was errbacked with."""
        return self.cluster.result(deferred)

    def ask(self, question: Coroutine[Any, Any, T]) -> T:
        """Return the result of a coroutine."""
        return self.result(Deferred.fromCoroutine(question))

    def refresh(self, agent: MountAgent) -> None:
        """Have an agent read its table, and act."""
        agent.refresh()
        self.cluster.settle()

    @property
    def latched(self) -> dict[str, Json]:
        """What is latched: key to value."""
        return self.ask(latched(self.user))

    def kinds(self, *keys: str) -> list[str]:
        """Return what happened to these keys, in order."""
        return [str(record.kind) for record in self.ask(history(self.user, *keys))]

    def source(self, key: str) -> object:
        """Return the source that is announced for a key."""
        value = self.latched[key]
        assert isinstance(value, dict)
        return value["source"]


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Hosts]:
    """Yield an empty cluster; afterwards no timer and no connection may be left."""
    hosts = Hosts(tmp_path)
    yield hosts
    for agent in hosts.agents:
        hosts.result(agent.stop())
        assert hosts.result(agent.ended) is None
    hosts.cluster.close()


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
    """The start's Deferred is called back once both keys are held."""
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
    assert hosts.latched == {ABC: told, f"n1:{ABC}": told}
    for key in BOTH:
        number, (holder,) = hosts.result(hosts.user.holders(key))
        assert (number, holder.node, holder.value) == (1, "n1", told)


def test_nothing_is_mounted_at_start(hosts: Hosts) -> None:
    """There is nothing to wait for."""
    hosts.server.stop()
    agent = hosts.agent("n1", hosts.table("n1"))
    starting = agent.start()
    assert starting.called
    hosts.server.start()


def test_mount_and_unmount(hosts: Hosts, log: list[str]) -> None:
    """Mounting latches both keys, unmounting withdraws them, mounting again latches them again."""
    table = hosts.table("n1")
    agent = hosts.started("n1", table)
    assert hosts.latched == {}
    for _ in range(2):
        table.mount(ABC)
        hosts.refresh(agent)
        assert hosts.latched.keys() == BOTH
        table.umount(ABC)
        hosts.refresh(agent)
        assert hosts.latched == {}
    for key in BOTH:
        assert hosts.kinds(key) == ["fired", "withdrawn"] * 2
        assert [line for line in log if line.startswith(key)] == [f"{key} announced", f"{key} withdrawn"] * 2


def test_innermost_first(hosts: Hosts) -> None:
    """Nested mounts are withdrawn in the order of umount."""
    table = hosts.table("n1")
    for target in ("/a", "/a/b", "/a/b/c"):
        table.mount(target)
    agent = hosts.started("n1", table)
    for target in ("/a", "/a/b", "/a/b/c"):
        table.umount(target)
    hosts.refresh(agent)
    ends = [record.key for record in hosts.ask(history(hosts.user)) if record.kind is Kind.WITHDRAWN]
    assert [key for key in ends if key.startswith("/")] == ["/a/b/c", "/a/b", "/a"]
    assert [key for key in ends if key.startswith("n1:")] == ["n1:/a/b/c", "n1:/a/b", "n1:/a"]


def test_start_waits_for_the_acknowledgement(hosts: Hosts) -> None:
    """No start before the server has answered the last call."""
    table = hosts.table("n1")
    table.mount(ABC)
    agent = hosts.agent("n1", table)
    hosts.cluster.settle()
    hosts.server.hang()
    starting = agent.start()
    hosts.cluster.settle()
    assert not starting.called
    hosts.server.resume()
    hosts.result(starting)
    assert hosts.latched.keys() == BOTH


@pytest.mark.parametrize("change", [{"source": "new"}, {"source": "new", "fstype": "ext4"}])
@pytest.mark.parametrize("shared", [False, True])
def test_changed(hosts: Hosts, change: dict[str, str], shared: bool, log: list[str]) -> None:
    """Another file system on the mount point, or other options: the new value is told, and no key ends."""
    table, other = hosts.table("n1"), hosts.table("n2")
    table.mount(ABC, "old")
    other.mount(ABC, "theirs")
    agent = hosts.started("n1", table)
    if shared:
        hosts.started("n2", other)
    for _ in range(2):
        table.mount(ABC, **change)
        hosts.refresh(agent)
    assert hosts.source(f"n1:{ABC}") == "new"
    # Who has it mounted for longer is told of first.
    assert hosts.source(ABC) == ("theirs" if shared else "new")
    assert hosts.kinds(*BOTH) == ["fired"] * 4
    assert hosts.result(hosts.user.holders(f"n1:{ABC}"))[0] == 1
    assert hosts.result(hosts.user.holders(ABC))[0] == 1 + shared
    assert [line for line in log if line.startswith(ABC)] == [
        f"{ABC} announced",
        *([f"{ABC} announced, behind n1"] if shared else []),
        f"{ABC} changed",
    ]


@pytest.mark.parametrize("source", ["old", "new"])
def test_started_again(hosts: Hosts, source: str) -> None:
    """An agent that is started again takes its keys over without an end, also with another value."""
    table = hosts.table("n1")
    table.mount(ABC, "old")
    hosts.stopped(hosts.started("n1", table))
    assert hosts.latched.keys() == BOTH
    table.mount(ABC, source)
    agent = hosts.started("n1", table)
    assert hosts.source(ABC) == hosts.source(f"n1:{ABC}") == source
    hosts.cluster.advance(100)
    assert hosts.kinds(*BOTH) == ["fired"] * 4
    table.umount(ABC)
    hosts.refresh(agent)
    assert hosts.latched == {}


def test_what_is_not_announced_again_expires(hosts: Hosts) -> None:
    """What was unmounted while no agent ran, and what is no longer selected, end with the former lease."""
    table = hosts.table("n1")
    for target in (ABC, "/mnt/gone", "/data/x"):
        table.mount(target)
    hosts.stopped(hosts.started("n1", table))
    table.umount("/mnt/gone")
    hosts.started("n1", table, ("/mnt/*",))
    hosts.cluster.advance(14)
    assert "/mnt/gone" in hosts.latched
    hosts.cluster.advance(30)
    assert hosts.latched.keys() == BOTH
    assert hosts.kinds(ABC) == ["fired"] * 2
    assert hosts.kinds("/mnt/gone") == hosts.kinds("n1:/data/x") == ["fired", "expired"]


def test_unmounted_soon_after_a_restart(hosts: Hosts) -> None:
    """The earlier agent still counts until its lease is over."""
    table = hosts.table("n1")
    table.mount(ABC)
    hosts.stopped(hosts.started("n1", table))
    agent = hosts.started("n1", table)
    table.umount(ABC)
    hosts.refresh(agent)
    assert hosts.latched.keys() == BOTH
    hosts.cluster.advance(40)
    assert hosts.latched == {}
    for key in BOTH:
        assert hosts.kinds(key) == ["fired", "fired", "fired", "expired"]


def test_the_host_dies(hosts: Hosts) -> None:
    """Its own keys expire when the lease and the grace time are over; a shared one passes."""
    table, other = hosts.table("n1"), hosts.table("n2")
    for each in (table, other):
        each.mount(ABC)
    hosts.started("n1", table)
    hosts.started("n2", other)
    hosts.cluster.networks["n1"].stall()
    hosts.cluster.advance(19)
    assert f"n1:{ABC}" in hosts.latched
    hosts.cluster.advance(20)
    assert hosts.latched.keys() == {ABC, f"n2:{ABC}"}
    assert hosts.kinds(f"n1:{ABC}") == ["fired", "expired"]
    assert hosts.kinds(ABC) == ["fired"] * 2
    hosts.cluster.networks["n1"].unstall()
    hosts.cluster.advance(10)
    assert f"n1:{ABC}" in hosts.latched


def test_a_shared_key_passes(hosts: Hosts) -> None:
    """The mount point is latched while any host has it mounted, without an end in between."""
    tables = {node: hosts.table(node) for node in ("n1", "n2", "n3")}
    agents = {}
    for node, table in tables.items():
        table.mount(ABC, node)
        agents[node] = hosts.started(node, table)
    for node, following in (("n2", "n1"), ("n1", "n3")):
        tables[node].umount(ABC)
        hosts.refresh(agents[node])
        assert hosts.source(ABC) == following
        assert f"{node}:{ABC}" not in hosts.latched
    tables["n3"].umount(ABC)
    hosts.refresh(agents["n3"])
    assert hosts.latched == {}
    assert hosts.kinds(ABC) == ["fired", "fired", "withdrawn"]


def test_two_hosts_of_one_name(hosts: Hosts) -> None:
    """Both hold the keys, which last until the second unmounts."""
    here, there = hosts.table("here"), hosts.table("there")
    for each in (here, there):
        each.mount(ABC)
    agents = [hosts.started("n1", table) for table in (here, there)]
    there.umount(ABC)
    hosts.refresh(agents[1])
    hosts.cluster.advance(100)
    assert hosts.latched.keys() == BOTH
    here.umount(ABC)
    hosts.refresh(agents[0])
    assert hosts.latched == {}
    for key in BOTH:
        assert hosts.kinds(key) == ["fired", "fired", "fired", "withdrawn"]


def test_users_cannot_end_it(hosts: Hosts) -> None:
    """What is mounted stays latched, whatever a user calls."""
    table = hosts.table("n1")
    table.mount(ABC)
    hosts.started("n1", table)
    for call in (hosts.user.reset(ABC), hosts.user.fail(ABC, "disk on fire"), hosts.user.pulse(ABC)):
        assert not hosts.result(call).first
    assert hosts.latched.keys() == BOTH


def test_evicted_by_a_user(hosts: Hosts, log: list[str]) -> None:
    """It is announced again with the next heartbeat, as it is mounted still; once it is not, it is not."""
    table = hosts.table("n1")
    table.mount(ABC)
    agent = hosts.started("n1", table)
    assert hosts.result(hosts.user.reset(ABC, evict=True)).first
    assert hosts.latched.keys() == {f"n1:{ABC}"}
    hosts.cluster.advance(10)
    assert hosts.latched.keys() == BOTH
    assert f"{ABC} was ended by an eviction; announcing it again" in log
    assert hosts.kinds(ABC) == ["fired", "reset", "fired"]
    table.umount(ABC)
    hosts.refresh(agent)
    assert hosts.latched == {}


def test_failed_by_a_user(hosts: Hosts, log: list[str]) -> None:
    """A key that somebody failed first stays so until it is reset; then the mount is told."""
    table = hosts.table("n1")
    hosts.result(hosts.user.fail(ABC, "disk on fire"))
    agent = hosts.started("n1", table)
    for _ in range(2):
        table.mount(ABC)
        hosts.refresh(agent)
        assert hosts.latched == {ABC: "disk on fire", f"n1:{ABC}": hosts.latched[f"n1:{ABC}"]}
        table.umount(ABC)
        hosts.refresh(agent)
        assert hosts.latched == {ABC: "disk on fire"}
    assert log.count(f"{ABC} announced, behind user") == 2
    table.mount(ABC)
    hosts.refresh(agent)
    hosts.result(hosts.user.reset(ABC))
    assert hosts.source(ABC) == "none"
    assert hosts.kinds(ABC) == ["failed", "fired"]


def test_server_comes_back_empty(hosts: Hosts) -> None:
    """After a flush, all that is mounted is announced again."""
    table = hosts.table("n1")
    table.mount(ABC)
    hosts.started("n1", table)
    hosts.server.flush()
    assert hosts.latched == {}
    hosts.cluster.advance(30)
    assert hosts.latched.keys() == BOTH


def test_a_server_that_restarts(hosts: Hosts) -> None:
    """It is away for longer than the lease: nothing blinks."""
    table = hosts.table("n1")
    table.mount(ABC)
    agent = hosts.started("n1", table)
    hosts.server.stop()
    hosts.cluster.advance(100)
    table.mount("/mnt/more")
    hosts.refresh(agent)
    hosts.server.start()
    hosts.cluster.advance(60)
    assert hosts.latched.keys() == {*BOTH, "/mnt/more", "n1:/mnt/more"}
    assert hosts.kinds(*BOTH) == ["fired"] * 2


# Calls that fail.


def refusing(hosts: Hosts) -> Refusing:
    """Make a node whose holds can be refused."""
    return Refusing(hosts.cluster.node("n1").events("mount"))


@pytest.mark.parametrize(
    "error", [errors.Unreachable, errors.Unconfirmed, errors.ServerRefused, errors.AccessDenied, errors.InvalidTime]
)
def test_calls_that_fail_are_made_again(hosts: Hosts, error: type[errors.Error], log: list[str]) -> None:
    """What could not be announced is tried again after pauses of at most ten seconds."""
    table, events = hosts.table("n1"), refusing(hosts)
    agent = hosts.agent_on(events, table)
    hosts.result(agent.start())
    events.refuse = lambda key: error(f"{key}: not now")
    table.mount(ABC)
    hosts.refresh(agent)
    hosts.cluster.advance(200)
    assert 15 < events.calls.count(ABC) < 30
    assert [line for line in log if "not now" in line] == [f"mounts are not announced: {ABC}: not now; trying again"]
    events.refuse = lambda key: None
    hosts.cluster.advance(10)
    assert hosts.latched.keys() == BOTH
    before = len(events.calls)
    hosts.cluster.advance(100)
    assert len(events.calls) == before


def test_a_change_does_not_wait_for_a_retry(hosts: Hosts) -> None:
    """What is mounted during a pause is announced at once."""
    table, events = hosts.table("n1"), refusing(hosts)
    agent = hosts.agent_on(events, table)
    hosts.result(agent.start())
    events.refuse = lambda key: errors.ServerRefused() if key == ABC else None
    table.mount(ABC)
    hosts.refresh(agent)
    hosts.cluster.advance(100)
    table.mount("/mnt/more")
    hosts.refresh(agent)
    assert hosts.latched.keys() == {f"n1:{ABC}", "/mnt/more", "n1:/mnt/more"}


def test_start_waits_for_a_server_that_is_away(hosts: Hosts) -> None:
    """An unreachable server is waited for, and nothing is announced twice."""
    table = hosts.table("n1")
    table.mount(ABC)
    hosts.server.stop()
    starting = hosts.agent("n1", table).start()
    hosts.cluster.advance(100)
    assert not starting.called
    hosts.server.start()
    hosts.result(starting)
    assert hosts.kinds(ABC) == ["fired"]


def test_access_denied_at_start(hosts: Hosts) -> None:
    """A server that does not let the agent in ends it: the start's Deferred says so."""
    table = hosts.table("n1")
    table.mount(ABC)
    hosts.server.set_password("other")
    with pytest.raises(errors.AccessDenied):
        hosts.result(hosts.agent("n1", table).start())
    hosts.server.set_password(None)


def test_a_map_with_other_lease_times(hosts: Hosts, log: list[str]) -> None:
    """It is said which; once nobody holds anything there, the mounts are announced."""
    table = hosts.table("n1")
    table.mount(ABC)
    other = hosts.cluster.node("other", heartbeat=1.0, lease=5.0, grace=3.0).events("mount")
    hold = hosts.result(other.hold("other"))
    starting = hosts.agent("n1", table).start()
    hosts.cluster.advance(60)
    assert not starting.called
    said = (
        "mounts are not announced: map mount: its holders have lease=5 and grace=3, "
        "this node has lease=20 and grace=10: all of a map must agree; trying again"
    )
    assert log.count(said) == 1
    hosts.result(hold.withdraw())
    hosts.result(hosts.cluster.nodes[1].close())
    hosts.result(starting)
    assert hosts.latched.keys() == BOTH


def test_a_key_that_needs_more_holders(hosts: Hosts, log: list[str]) -> None:
    """What a user has made impossible is said, is no reason to wait with the rest, and is announced afterwards."""
    table = hosts.table("n1")
    table.mount(ABC)
    hold = hosts.result(hosts.user.hold(ABC, need=2))
    hosts.started("n1", table)
    assert hosts.latched.keys() == {f"n1:{ABC}"}
    hosts.cluster.advance(100)
    assert sum(f"{ABC} is not announced: {ABC}: its first holder said need=2" in line for line in log) == 1
    hosts.result(hold.withdraw())
    hosts.cluster.advance(10)
    assert hosts.latched.keys() == BOTH


def test_values_and_records_that_cannot_be(hosts: Hosts, log: list[str]) -> None:
    """A key whose value is refused or whose record is junk is left out, said once, others go on."""
    table = hosts.table("n1")
    table.mount("/big", source="x" * 70_000)
    table.mount("/junk")
    table.mount(ABC)
    junk = hosts.user._map.names.records
    hosts.result(hosts.cluster.nodes[0].execute("HSET", junk, "/junk", "junk"))
    agent = hosts.started("n1", table)
    assert hosts.latched.keys() == {*BOTH, "n1:/junk"}
    table.mount("/more")
    hosts.refresh(agent)
    hosts.cluster.advance(100)
    assert sum("/junk is not announced" in line for line in log) == 1
    assert sum("/big is not announced" in line for line in log) == 2
    table.mount("/big", source="small")
    hosts.refresh(agent)
    assert "/big" in hosts.latched
    # Somebody repairs it.
    hosts.result(hosts.user.reset("/junk"))
    hosts.cluster.advance(10)
    assert hosts.source("/junk") == "none"


def test_a_value_that_cannot_be_is_not_tried_again(hosts: Hosts) -> None:
    """Until it changes, it would be refused again."""
    table, events = hosts.table("n1"), refusing(hosts)
    table.mount("/big", source="x" * 70_000)
    hosts.result(hosts.agent_on(events, table).start())
    hosts.cluster.advance(100)
    assert events.calls == ["/big", "n1:/big"]


def test_mount_points_that_cannot_be_keys(hosts: Hosts, log: list[str]) -> None:
    """A mount point that cannot be a key is left out, and said once."""
    table = hosts.table("n1")
    for target in ("/bad\udcff", "/" + "x" * 512, "/a\nb"):
        table.mount(target)
    agent = hosts.started("n1", table)
    table.mount(ABC)
    hosts.refresh(agent)
    assert hosts.latched.keys() == BOTH
    assert sum("is not announced" in line for line in log) == 3


def test_changes_during_a_round(hosts: Hosts) -> None:
    """What changes while calls are under way is acted on when they are answered."""
    table = hosts.table("n1")
    agent = hosts.started("n1", table)
    hosts.server.hang()
    table.mount(ABC, "first")
    hosts.refresh(agent)
    table.mount(ABC, "second")
    table.mount("/mnt/b")
    table.mount("/mnt/c")
    hosts.refresh(agent)
    table.umount("/mnt/b")
    hosts.refresh(agent)
    hosts.server.resume()
    hosts.cluster.settle()
    assert hosts.latched.keys() == {*BOTH, "/mnt/c", "n1:/mnt/c"}
    assert hosts.source(ABC) == "second"
    assert hosts.kinds(ABC) == ["fired"] * 2
    assert hosts.kinds("/mnt/b") == []


def test_an_unmount_that_is_not_answered(hosts: Hosts, log: list[str]) -> None:
    """It is said, once for all; the keys end when the server is back."""
    table = hosts.table("n1")
    table.mount(ABC)
    agent = hosts.started("n1", table)
    hosts.server.stop()
    table.umount(ABC)
    hosts.refresh(agent)
    hosts.cluster.advance(60)
    assert sum("unmounts are announced later, when the lease ends at the latest: " in line for line in log) == 1
    hosts.server.start()
    hosts.cluster.advance(40)
    assert hosts.latched == {}
    table.mount(ABC)
    hosts.refresh(agent)
    assert hosts.latched.keys() == BOTH


# The end.


def test_closed_coordinator(hosts: Hosts) -> None:
    """When the coordinator is closed, a start that waits ends, and a running agent at the next change."""
    table = hosts.table("n1")
    table.mount(ABC)
    running = hosts.started("n1", table)
    hosts.result(hosts.cluster.nodes[1].close())
    assert hosts.latched == {}
    table.umount(ABC)
    table.mount("/mnt/b")
    hosts.refresh(running)
    assert hosts.result(running.ended) is None
    hosts.agents.remove(running)
    hosts.server.stop()
    agent = hosts.agent("n2", table)
    starting = agent.start()
    hosts.result(hosts.cluster.nodes[2].close())
    with pytest.raises(errors.Closed):
        hosts.result(starting)


def test_stop_leaves_the_keys(hosts: Hosts) -> None:
    """A stop leaves the keys as they are, and follows nothing any more; they last until the coordinator is closed."""
    table = hosts.table("n1")
    table.mount(ABC)
    agent = hosts.started("n1", table)
    hosts.result(agent.stop())
    table.mount("/mnt/b")
    hosts.refresh(agent)
    hosts.cluster.advance(100)
    assert hosts.latched.keys() == BOTH
    hosts.result(hosts.cluster.nodes[1].close())
    assert hosts.latched == {}


def test_stop_with_reset(hosts: Hosts) -> None:
    """A stop with reset takes this node's keys back; a shared one passes to whoever has it too."""
    tables = {node: hosts.table(node) for node in ("n1", "n2")}
    for table in tables.values():
        table.mount(ABC)
    tables["n1"].mount("/mnt/mine")
    agent = hosts.started("n1", tables["n1"])
    hosts.started("n2", tables["n2"])
    hosts.result(agent.stop(reset=True))
    assert hosts.latched.keys() == {ABC, f"n2:{ABC}"}
    hosts.result(agent.stop(reset=True))


def test_stop_with_reset_after_a_stop(hosts: Hosts) -> None:
    """What a stop has left can be withdrawn later."""
    table = hosts.table("n1")
    table.mount(ABC)
    agent = hosts.started("n1", table)
    hosts.result(agent.stop())
    hosts.result(agent.stop(reset=True))
    assert hosts.latched == {}


@pytest.mark.parametrize("reset", [False, True])
def test_stop_while_calls_are_under_way(hosts: Hosts, reset: bool) -> None:
    """With reset, what is under way is finished first, and then taken back; else it is given up."""
    table = hosts.table("n1")
    agent = hosts.started("n1", table)
    hosts.server.hang()
    table.mount(ABC)
    hosts.refresh(agent)
    stopping = agent.stop(reset=reset)
    hosts.cluster.settle()
    assert stopping.called is not reset
    hosts.server.resume()
    hosts.result(stopping)
    hosts.cluster.settle()
    assert hosts.latched == {}
    assert hosts.kinds(ABC) in ([], ["fired", "withdrawn"])


def test_stop_with_reset_that_is_not_answered(hosts: Hosts) -> None:
    """It says why; the keys end when the server is back."""
    table = hosts.table("n1")
    table.mount(ABC)
    agent = hosts.started("n1", table)
    hosts.server.stop()
    with pytest.raises(errors.Unreachable):
        hosts.result(agent.stop(reset=True))
    hosts.server.start()
    hosts.cluster.advance(40)
    assert hosts.latched == {}


@pytest.mark.parametrize("reset", [False, True])
def test_stop_while_it_pauses(hosts: Hosts, reset: bool) -> None:
    """A stop in the pause before the next try ends at once and leaves no timer."""
    table, events = hosts.table("n1"), refusing(hosts)
    agent = hosts.agent_on(events, table)
    hosts.result(agent.start())
    events.refuse = lambda key: errors.Unreachable()
    table.mount(ABC)
    hosts.refresh(agent)
    before = len(events.calls)
    assert agent.stop(reset=reset).called
    hosts.cluster.advance(100)
    assert len(events.calls) == before


def test_stop_before_the_start_ends(hosts: Hosts) -> None:
    """No start is left hanging: stopped first, it errbacks Closed; cancelled, CancelledError."""
    table = hosts.table("n1")
    table.mount(ABC)
    hosts.server.stop()
    agent = hosts.agent("n1", table)
    starting = agent.start()
    hosts.result(agent.stop())
    with pytest.raises(errors.Closed):
        hosts.result(starting)
    starting = hosts.agent("n1", table).start()
    starting.cancel()
    with pytest.raises(CancelledError):
        hosts.result(starting)
    with pytest.raises(RuntimeError, match="once"):
        agent.start()
    hosts.server.start()
    hosts.cluster.advance(30)
    assert hosts.latched == {}


def test_something_unforeseen(hosts: Hosts) -> None:
    """A bug below does not pass unnoticed: `ended` errbacks with it."""
    table, events = hosts.table("n1"), refusing(hosts)
    agent = hosts.agent_on(events, table)
    hosts.result(agent.start())
    events.refuse = lambda key: ZeroDivisionError()
    table.mount(ABC)
    hosts.refresh(agent)
    with pytest.raises(ZeroDivisionError):
        hosts.result(agent.ended)


# Tables.


def test_tables_that_cannot_be_read(hosts: Hosts, tmp_path: Path) -> None:
    """A missing file, a folder, and a file of something else each fail the start."""
    (tmp_path / "x").write_text("127.0.0.1 localhost\n")
    for path, error in ((tmp_path / "no", OSError), (tmp_path, OSError), (tmp_path / "x", ValueError)):
        agent = MountAgent(hosts.user, "n1", mountinfo=path, reactor=hosts.cluster.clock)
        with pytest.raises(error):
            hosts.result(agent.start())
        assert not agent.live


def garbage(table: Table) -> None:
    """Turn a table into something else."""
    table.path.write_text("garbage\n")


def remove(table: Table) -> None:
    """Remove a table."""
    table.path.unlink()


@pytest.mark.parametrize(
    ("fault", "said"), [(garbage, "garbage"), (remove, "No such file or directory; its last contents still count")]
)
def test_a_table_that_cannot_be_read_any_more(
    hosts: Hosts, log: list[str], fault: Callable[[Table], None], said: str
) -> None:
    """It withdraws nothing: what it said before holds, which is logged once; it may come back."""
    table = hosts.table("n1")
    table.mount(ABC)
    hosts.started("n1", table)
    fault(table)
    hosts.cluster.advance(30)
    assert hosts.latched.keys() == BOTH
    assert sum(said in line for line in log) == 1
    hosts.table("n1")
    hosts.cluster.advance(10)
    assert hosts.latched == {}


def test_a_copy_is_read_every_ten_seconds(hosts: Hosts) -> None:
    """A regular file, also one that took the place of the first, is noticed without `refresh`."""
    table = hosts.table("n1")
    hosts.started("n1", table)
    table.mount(ABC)
    hosts.cluster.advance(9.9)
    assert hosts.latched == {}
    hosts.cluster.advance(0.1)
    assert hosts.latched.keys() == BOTH
    another = hosts.table("another")
    another.path.replace(table.path)
    hosts.cluster.advance(10)
    assert hosts.latched == {}
