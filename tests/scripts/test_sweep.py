"""What is due is forgotten, also in maps that are not called any more."""

from __future__ import annotations

import pytest

from coord.link.scripts import IDLE, SWEEP
from scripts.maps import Map
from scripts.servers import Client

LIFE = 1
"""Milliseconds for which outcomes and pending records are kept here."""


@pytest.fixture
def brief(mount: Map) -> Map:
    """Give a map whose pending records and outcomes are due at once."""
    mount.retention = mount.outcome_life = LIFE
    return mount


def _pass(client: Client) -> None:
    """Let the server's clock go on until all that is brief is due."""

    def now() -> int:
        seconds, micro = client.command("TIME")
        return int(seconds) * 1000 + int(micro) // 1000

    begin = now()
    while now() < begin + 2 * LIFE:
        client.pass_time(0.001)


def _idle(mount: Map) -> dict[bytes, float]:
    flat = mount.client.command("ZRANGE", mount.names.idle, 0, -1, "WITHSCORES")
    return {name: float(score) for name, score in zip(flat[::2], flat[1::2], strict=True)}


def _due_maps(client: Client, mount: Map, most: int = 10) -> list[bytes]:
    names: list[bytes] = mount._run(IDLE, 1, mount.names.idle, most)
    return names


def _sweep(mount: Map, most: int = 100) -> list[bytes]:
    """Sweep, and return the events to end: key and revision in turn."""
    _, _, *calls = mount._run(SWEEP, 5, *mount.names.keys, mount.names.name, most, LIFE)
    assert set(calls[::3]) <= {b"E"}
    return [word for event in zip(calls[1::3], calls[2::3], strict=True) for word in event]


def test_b2_a_map_that_is_called_is_to_be_looked_at(brief: Map) -> None:
    """B2: the first call on a map names it in the idle set, at the time at which something is due; others do not."""
    brief.retention = 5_000
    brief.pulse("a")
    (name, at), *others = _idle(brief).items()
    assert (name, others) == (b"mount", [])
    assert at == brief.stored("a").time // 1000 + LIFE
    brief.client.command("ZADD", brief.names.idle, 7, name)
    brief.pulse("b")
    assert _idle(brief) == {b"mount": 7}


def test_b2_an_idle_map_leaves_its_head_alone(brief: Map) -> None:
    """B2: of a map in which nothing is latched the head alone stays, in at most 200 bytes."""
    brief.apply(("P", "a", b"1"), ("F", "b", b'"%b"' % (b"x" * 5_000)), ("R", "b", b""))
    head = brief.head
    assert head is not None
    _pass(brief.client)
    assert _due_maps(brief.client, brief) == [b"mount"]
    assert _sweep(brief) == []
    names = brief.names
    assert brief.client.command("EXISTS", names.log, names.due, names.idle) == 0
    assert brief.client.command("HLEN", names.records) == 1
    assert brief.head == head._replace(process=b"-")
    assert brief.client.bytes_of(names.records) <= 200


def test_b2_an_idle_map_goes_on_where_it_was(brief: Map) -> None:
    """B2: the next call on a swept map continues its numbers, in its generation, and names it again."""
    brief.pulse("a")
    before = brief.revision
    _pass(brief.client)
    _sweep(brief)
    assert brief.pulse("a").first
    assert brief.revision == (before.generation, before.number + 1)
    assert brief.head is not None
    assert brief.head.process.decode() == brief.process
    assert b"mount" in _idle(brief)
    assert [entry.after for entry in brief.entries] == [None]


def test_b2_what_is_latched_stays(brief: Map) -> None:
    """B2: a latched key, its history and what is due later stay; the map is looked at again when that is due."""
    brief.fire("latched", b"1")
    brief.apply(("P", "a", b"1"))
    brief.retention = 60_000
    brief.apply(("P", "later", b"1"))
    _pass(brief.client)
    assert _sweep(brief) == []
    assert sorted(brief.records) == ["latched", "later"]
    assert brief.due == {"later": _idle(brief)[b"mount"]}
    assert len(brief.lines) == 3


def test_b2_a_map_with_only_latched_keys_is_not_looked_at(brief: Map) -> None:
    """B2: nothing of it is due; its next call names it again."""
    brief.fire("latched", b"1")
    _pass(brief.client)
    _sweep(brief)
    assert _idle(brief) == {}
    assert brief.records
    assert brief.entries
    brief.pulse("a")
    assert b"mount" in _idle(brief)


def test_b2_a_sweep_is_bounded(brief: Map) -> None:
    """B2: one sweep forgets no more than it is told to; the map is swept again while more is due."""
    brief.apply(*(("P", f"k{number}", b"1") for number in range(10)))
    _pass(brief.client)
    _sweep(brief, 4)
    # Its outcome is due, too.
    assert len(brief.records) == 7
    assert _due_maps(brief.client, brief) == [b"mount"]
    _sweep(brief, 4)
    _sweep(brief, 4)
    assert _due_maps(brief.client, brief) == []
    assert brief.records == {}


def test_b2_maps_are_given_out_in_turn(brief: Map) -> None:
    """B2: who asks right after another is given other maps first, so that none that stays due is in the way."""
    for name in ("x", "y", "z"):
        other = Map(brief.client, name=name)
        other.retention = other.outcome_life = LIFE
        other.pulse("k")
    _pass(brief.client)
    first = _due_maps(brief.client, brief, 2)
    _pass(brief.client)
    second = _due_maps(brief.client, brief, 2)
    assert {*first, *second} == {b"x", b"y", b"z"}
    assert second[0] not in first


def test_l11_a_map_that_is_given_out_is_kept_from_nobody(brief: Map) -> None:
    """L11: who was given it may have ended, or may not be allowed to sweep it; it is due until it is swept."""
    brief.pulse("k")
    _pass(brief.client)
    for _ in range(3):
        assert _due_maps(brief.client, brief) == [b"mount"]
    _sweep(brief)
    assert _due_maps(brief.client, brief) == []


def test_what_is_latched_is_no_longer_due(mount: Map) -> None:
    """A key that was pulsed and is fired then is taken out of what is due; one that is reset again is in it."""
    mount.apply(("P", "a", b"1"), ("P", "b", b"1"))
    mount.apply(("F", "a", b"1"), ("F", "b", b"1"), ("R", "b", b""))
    assert list(mount.due) == ["b"]
    mount.apply(("P", "c", b"1"), ("F", "c", b"1"))
    assert list(mount.due) == ["b"]


def test_the_set_of_what_is_due_does_not_vanish(mount: Map) -> None:
    """A map with data has each of its Redis keys, however little is due: on a cluster one that is missing waits."""
    mount.fire("a")
    _forget_outcomes(mount)
    assert mount.client.command("EXISTS", *mount.names.keys) == 4


def _forget_outcomes(mount: Map) -> None:
    for field in mount.client.command("ZRANGE", mount.names.due, 0, -1):
        if field:
            mount.client.command("ZREM", mount.names.due, field)
