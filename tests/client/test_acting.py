"""Calls that a node makes for somebody else."""

from __future__ import annotations

import pytest

from coord import MEMBERS, InvalidName, NameReused
from coord.client.acting import ActingMap
from coord.testing import Cluster


def test_records_name_the_principal() -> None:
    """So calls of two principals that travel together each have their own."""
    with Cluster() as world:
        node = world.node("web1")
        events = node.events("m")
        first, second = ActingMap(events, "ci").fire("a"), ActingMap(events, "ops").fail("b", "why")
        own = events.pulse("c")
        nodes = [record.node for each in (first, second, own) if (record := world.result(each).record)]
        assert nodes == ["web1.ci", "web1.ops", "web1"]


def test_a_name_belongs_to_a_principal() -> None:
    """Whichever gateway repeats the call: the answer is the first one's, node included."""
    with Cluster() as world:
        one, two = (world.node(name).events("m") for name in ("web1", "web2"))
        first = world.result(ActingMap(one, "ci").pulse("k", 1, once="job"))
        assert first.first
        assert world.result(ActingMap(two, "ci").pulse("k", 1, once="job")) == first
        other = world.result(ActingMap(two, "ops").pulse("k", 1, once="job"))
        assert other.record is not None
        assert other.record.node == "web2.ops"
        with pytest.raises(NameReused):
            world.result(ActingMap(two, "ci").pulse("k", 2, once="job"))
        world.result(two.pulse("k", 3, once="job"))


def test_it_acknowledges_under_another_name() -> None:
    """As a node of that name would."""
    with Cluster() as world:
        events = world.node("web1").events("m")
        fired = world.result(events.fire("k"))
        assert fired.record is not None
        world.result(ActingMap(events, "ci").acknowledge(fired.record.revision, "ci", "1"))
        assert world.result(events.acked(fired.record, by=["ci"], timeout=5)).names == ("ci",)
        with pytest.raises(InvalidName):
            ActingMap(events, "ci").acknowledge(fired.record.revision, MEMBERS, "1")


def test_a_principal_has_a_name() -> None:
    """Which fits into that of a node."""
    with Cluster() as world:
        events = world.node("web1").events("m")
        with pytest.raises(InvalidName):
            ActingMap(events, "a b")
        with pytest.raises(InvalidName):
            ActingMap(events, "x" * 125)
