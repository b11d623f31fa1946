"""Reads of many records for many askers."""

from __future__ import annotations

import gc
from weakref import ref

import pytest
from twisted.internet.defer import Deferred

from coord import CorruptRecord, InvalidKey, Record, Unreachable
from coord.client.reads import Reads
from coord.testing import Cluster
from support.cluster import Seen


def _values(answers: list[Deferred[Record | None]]) -> list[object]:
    seen = Seen(*answers)
    return [getattr(each, "value", each) for each in [*seen.values, *seen.errors]]


def test_what_is_asked_while_a_read_is_under_way_goes_together() -> None:
    """Each asker has its answer, and the server was asked twice."""
    with Cluster() as world:
        node = world.node("n")
        events, reads = node.events("m"), Reads()
        for key in "abc":
            world.result(events.fire(key, key))
        asked: list[int] = []
        read = events._commands.read
        events._commands.read = lambda names, keys: (asked.append(len(keys)), read(names, keys))[1]  # type: ignore[method-assign, arg-type, func-returns-value]
        answers = [reads.record(events, key) for key in ("a", "b", "c", "b", "none")]
        world.settle()
        assert _values(answers) == ["a", "b", "c", "b", None]
        assert asked == [1, 3]


def test_one_that_cannot_be_read() -> None:
    """It is an error for who asked for it, and for nobody else."""
    with Cluster() as world:
        node = world.node("n")
        events, reads = node.events("m"), Reads()
        world.result(events.fire("a", 1))
        world.result(node.execute("HSET", "coord:{default/m}", "bad", "rubbish"))
        good, bad = reads.record(events, "a"), reads.record(events, "bad")
        again = reads.record(events, "a")
        with pytest.raises(CorruptRecord, match="bad"):
            world.result(bad)
        assert [record.value for record in map(world.result, (good, again)) if record] == [1, 1]
        with pytest.raises(InvalidKey):
            reads.record(events, "")


def test_an_event_with_a_ttl() -> None:
    """It says how long it will stand, and stands as ended once that is over."""
    with Cluster() as world:
        events, reads = world.node("n").events("m"), Reads()
        world.result(events.fire("a", 1, ttl=5))
        found = world.result(reads.record(events, "a"))
        assert found is not None
        assert found.expires_in == 5.0
        world.advance(20)
        found = world.result(reads.record(events, "a"))
        assert found is not None
        assert found.kind == "expired"


def test_a_server_that_is_away() -> None:
    """All who ask are told, also those who asked behind the first; and it goes on when it is back."""
    with Cluster() as world:
        events, reads = world.node("n").events("m"), Reads()
        world.settle()
        world.server.stop()
        world.advance(1)
        answers = [reads.record(events, key) for key in "ab"]
        for answer in answers:
            with pytest.raises(Unreachable):
                world.result(answer)
        world.server.start()
        world.advance(10)
        assert world.result(reads.record(events, "a")) is None


def test_an_asker_that_gives_up() -> None:
    """The others have their answers."""
    with Cluster() as world:
        events, reads = world.node("n").events("m"), Reads()
        given_up, other = reads.record(events, "a"), reads.record(events, "a")
        given_up.addErrback(lambda _: None)
        given_up.cancel()
        assert world.result(other) is None


def test_a_map_is_forgotten() -> None:
    """With the last who refers to it."""
    with Cluster() as world:
        node, reads = world.node("n"), Reads()
        events = node.events("m")
        world.result(reads.record(events, "a"))
        seen = ref(events)
        del events
        gc.collect()
        assert seen() is None
