"""A watch reads on by itself until it has caught up. Where no time passes, no heartbeat can come to its aid."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from coord import EventMap
from memory import Cluster
from support.watcher import Watcher

# More entries than a watch reads at once.
_MANY = 1_100


@pytest.fixture
def memory() -> Iterator[Cluster]:
    """Give a cluster in memory, on a clock that the test moves."""
    with Cluster() as cluster:
        yield cluster


def _map(memory: Cluster, name: str = "n") -> EventMap:
    node = memory.node(name)
    memory.result(node.connected())
    return node.events("m")


def _pulse(memory: Cluster, events: EventMap, key: str, times: int) -> None:
    for number in range(times):
        memory.result(events.pulse(key, number), within=0)


def test_over_what_others_wrote_into_the_history(memory: Cluster) -> None:
    """Where all of what was read is passed over, the changes behind it follow at once."""
    events = _map(memory)
    for number in range(1, _MANY):
        memory.result(memory.nodes[0].execute("XADD", "coord:{default/m}:log", f"1-{number}", "what", "ever"), within=0)
    _pulse(memory, events, "k", 1)
    watcher = Watcher(events, since="start")
    memory.settle()
    assert watcher.values == [0]
    assert watcher.caught_up
    watcher.stop()


def test_over_changes_of_other_keys(memory: Cluster) -> None:
    """Where none of the changes that were read has the prefix, those behind them follow at once."""
    events = _map(memory)
    _pulse(memory, events, "other", _MANY)
    _pulse(memory, events, "mine", 1)
    watcher = Watcher(events, "mine", since="start")
    memory.settle()
    assert watcher.values == [0]
    assert watcher.caught_up
    watcher.stop()


def test_after_a_ring_during_a_read(memory: Cluster) -> None:
    """A change that the server made after it had answered a read, and that rang before the answer came, is read."""
    events, other = _map(memory), _map(memory, "other")
    watcher = Watcher(events, "mine", since="now")
    memory.settle()
    commands = memory.networks["n"].connections[0]
    commands.stall("to client")
    _pulse(memory, other, "other", 1)
    _pulse(memory, other, "mine", 1)
    assert watcher.records == []
    commands.unstall("to client")
    memory.settle()
    assert watcher.values == [0]
    watcher.stop()


@pytest.mark.parametrize(("times", "size", "limit"), [(60, 60_000, 300_000), (600, 1, 5_000)])
def test_less_at_a_time_where_the_server_hangs_up(memory: Cluster, times: int, size: int, limit: int) -> None:
    """Whether it is the lines or their bytes that are too many for the server's limit, the watch catches up."""
    events = _map(memory)
    for number in range(times):
        memory.result(events.fire(f"k{number}", [number, "x" * size]), within=0)
    memory.server.reply_limit = limit
    watcher = Watcher(events, since="start")
    memory.advance(60)
    assert [value[0] for value in watcher.values] == list(range(times))
    assert watcher.caught_up
    watcher.stop()
