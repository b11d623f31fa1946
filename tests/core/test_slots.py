"""The slots of a cluster: where a map is, and what servers say about it."""

from __future__ import annotations

import random

import pytest

from coord.core.names import MapNames
from coord.core.slots import SLOTS, Address, Atlas, Redirect, Refusal, parse_redirect, parse_slots, slot_of, tag_of

_A, _B, _C = Address("10.0.0.1", 7000), Address("10.0.0.2", 7000), Address("::1", 7002)


@pytest.mark.parametrize(
    ("tag", "slot"),
    [
        (b"", 0),
        (b"foo", 12182),
        (b"bar", 5061),
        (b"123456789", 12739),
        (b"user1000", 3443),
        (b"default/mount", 4541),
        (b"default/@members", 12939),
    ],
)
def test_a_tag_is_in_the_slot_that_a_server_says(tag: bytes, slot: int) -> None:
    """These were answered by CLUSTER KEYSLOT of Redis 7.0 and Valkey 9.1."""
    assert slot_of(tag) == slot


def test_a_map_and_its_acknowledgements_have_one_tag() -> None:
    """Everything of a map is in the slot of the map's tag."""
    for name in ("mount", "mount/acks"):
        names = MapNames("default", name, 0)
        for key in (names.records, names.log, names.due, names.entries, names.doorbell, names.prefix):
            assert key.partition(b"{")[2].partition(b"}")[0] == tag_of("default", "mount")


@pytest.mark.parametrize(
    ("message", "redirect"),
    [
        ("MOVED 4541 127.0.0.1:7301", Redirect(Refusal.MOVED, 4541, Address("127.0.0.1", 7301))),
        ("ASK 1 ::1:7301", Redirect(Refusal.ASK, 1, Address("::1", 7301))),
        ("ASK 1 [::1]:7301", Redirect(Refusal.ASK, 1, Address("::1", 7301))),
        ("MOVED 7 :7301", Redirect(Refusal.MOVED, 7, Address("", 7301))),
        ("MOVED 7 ?:7301", Redirect(Refusal.MOVED, 7, Address("", 7301))),
        ("TRYAGAIN Multiple keys request during rehashing of slot", Redirect(Refusal.TRYAGAIN)),
        ("CLUSTERDOWN The cluster is down", Redirect(Refusal.DOWN)),
        ("ERR MOVED 1 a:1", None),
        ("MOVEDX 1 a:1", None),
        ("MOVED 1 a", None),
        ("WRONGTYPE TRYAGAIN ", None),
    ],
)
def test_a_refusal_is_understood(message: str, redirect: Redirect | None) -> None:
    """A refusal names a slot and a server, or neither; anything else is none."""
    assert parse_redirect(message) == redirect


def test_an_answer_names_primaries_replicas_and_hosts_that_are_not_announced() -> None:
    """A node without a host of its own is on the host that was asked, and NAT is undone."""
    reply = [
        [0, 100, [b"10.0.0.1", 7000, b"id", []], [b"10.0.0.2", 7000, b"id"]],
        [101, 16383, [b"", 7001, b"id"], [None, 7002, b"id"], [b"?", 7003, b"id"]],
    ]
    first, second = parse_slots(reply, Address("h", 1), lambda each: each._replace(port=each.port + 1))
    assert first == (0, 100, Address("10.0.0.1", 7001), (Address("10.0.0.2", 7001),))
    assert second == (101, 16383, Address("h", 7002), (Address("h", 7003), Address("h", 7004)))
    for wrong in (7, [7], [[0, 1]], [[0, 1, [b"a"]]], [[0, 1, 3]], [[b"x", 1, [b"a", 1]]]):
        with pytest.raises(ValueError, match="no answer"):
            parse_slots(wrong, _A)


def _answer(*owners: tuple[int, int, Address]) -> list[object]:
    return [(first, last, owner, ()) for first, last, owner in owners]


def test_moved_stands_against_older_answers_until_a_map_has_arrived() -> None:
    """A server that lags cannot undo what MOVED said, even if another answer agrees; then answers count again."""
    atlas = Atlas()
    assert not atlas.known
    assert atlas.owner(5) is None
    atlas.answered(_answer((0, SLOTS - 1, _A)))  # type: ignore[arg-type]
    atlas.moved(5, _B)
    for owner in (_A, _B, _A):
        atlas.answered(_answer((0, SLOTS - 1, owner)))  # type: ignore[arg-type]
        assert (atlas.owner(5), atlas.owner(6)) == (_B, owner)
    atlas.arrived(5, _C)
    atlas.answered(_answer((0, SLOTS - 1, _A)))  # type: ignore[arg-type]
    assert atlas.owner(5) == _B
    atlas.arrived(5, _B)
    atlas.distrust(_B)
    assert atlas.owner(5) == _B
    atlas.answered(_answer((0, SLOTS - 1, _C)))  # type: ignore[arg-type]
    assert atlas.owner(5) == _C


def test_moved_does_not_outlive_trust_in_the_server_that_it_names() -> None:
    """A slot goes by the last answer, once the server that MOVED named cannot be reached."""
    atlas = Atlas()
    atlas.answered(_answer((0, SLOTS - 1, _A)))  # type: ignore[arg-type]
    atlas.moved(5, _B)
    atlas.moved(6, _C)
    atlas.distrust(_B)
    assert (atlas.owner(5), atlas.owner(6)) == (_A, _C)
    atlas.moved(SLOTS, _B)
    atlas.moved(6, _A)
    assert atlas.owner(6) == _A
    assert atlas.primaries == [_A]


def test_a_slot_has_the_owner_that_was_named_last() -> None:
    """Under any interleaving, a slot is where the last MOVED or else the last answer has put it."""
    for seed in range(200):
        random_ = random.Random(seed)
        atlas, answered, moved = Atlas(), dict[int, Address](), dict[int, Address]()
        for _ in range(30):
            slot, owner = random_.randrange(4), random_.choice((_A, _B, _C))
            kind = random_.randrange(4)
            if kind == 0:
                atlas.moved(slot, owner)
                moved[slot] = owner
            elif kind == 1:
                atlas.arrived(slot, owner)
                if moved.get(slot) == owner:
                    answered[slot] = moved.pop(slot)
            else:
                answered = {each: random_.choice((_A, _B, _C)) for each in range(4)}
                atlas.answered(_answer(*((each, each, who) for each, who in answered.items())))  # type: ignore[arg-type]
            for each in range(4):
                assert atlas.owner(each) == (moved.get(each) or answered.get(each))
