"""The grammar of rights, and what they cover."""

from __future__ import annotations

import pytest

from coord import MEMBERS, InvalidInput
from coord.web.rights import VERBS, Principal, Rights


@pytest.mark.parametrize(
    ("word", "verb", "map_name", "key", "expected"),
    [
        ("read:*", "read", "m", "k", True),
        ("read:*", "read", MEMBERS, "web1", True),
        ("read:*", "fire", "m", "k", False),
        ("read:m", "read", "m", "any/key", True),
        ("read:m", "read", "mm", "k", False),
        ("read:m/k", "read", "m", "k", True),
        ("read:m/k", "read", "m", "k2", False),
        ("read:m/k*", "read", "m", "k2", True),
        ("read:m/k*", "read", "m", "j", False),
        ("read:m//mnt/a", "read", "m", "/mnt/a", True),
        ("read:m/*", "read", "m", "", True),
        ("read:*/k*", "read", "other", "k2", True),
        ("write:m", "pulse", "m", "k", True),
        ("write:m", "reset", "m", "k", True),
        ("write:m", "hold", "m", "k", False),
        ("write:*", "evict", "m", "k", False),
        ("write:*", "fire", MEMBERS, "web1", False),
        ("hold:*", "hold", MEMBERS, "web1", False),
        ("join:ci-*", "join", MEMBERS, "ci-7", True),
        ("join:ci-*", "join", MEMBERS, "web1", False),
        ("join:ci", "join", MEMBERS, "ci", True),
        ("join:ci", "join", MEMBERS, "ci2", False),
        ("join:*", "join", "m", "k", False),
    ],
)
def test_what_a_right_covers(word: str, verb: str, map_name: str, key: str, expected: bool) -> None:
    """A right is for its verb, its map and its keys, and for nothing else."""
    assert Rights([word]).may(verb, map_name, key) is expected


@pytest.mark.parametrize(
    "word",
    ["", "read", "read:", "read:/k", "red:*", "read:m/", "read:m/a*b", "read:m*", "read:a b", "*:*", "metrics:m",
     "join:", "join:a*b", "write", "read:m/k**"],
)  # fmt: skip
def test_what_is_no_right_is_refused(word: str) -> None:
    """A word that breaks the grammar is an error, not a right to less or more."""
    with pytest.raises(InvalidInput, match="right"):
        Rights([word])


def test_some_all_and_any() -> None:
    """A right to some keys is one to the map, but not to all of it."""
    some = Principal("ci", Rights(["read:m/k*", "metrics"]))
    assert some.may_some("read", "m")
    assert not some.may_all("read", "m")
    assert not some.may_some("fire", "m")
    assert some.rights.any("m")
    assert not some.rights.any("other")
    assert Principal("ci", Rights(["read:m"])).may_all("read", "m")
    assert not Rights(["metrics"]).any("m")
    assert not Rights([])


def test_the_order_of_rights_does_not_matter() -> None:
    """After a reload the same rights are the same."""
    assert Rights(["read:*", "fire:m"]) == Rights(["fire:m", "read:*"])
    assert Rights(["read:*"]) != Rights(["read:m"])


def test_each_verb_can_be_given() -> None:
    """No verb is left out of the grammar."""
    for verb in VERBS:
        assert Rights([verb if verb == "metrics" else f"{verb}:*"])
