"""The search for maps of a cluster that nobody uses any more."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail, succeed

from coord.link.replies import LinkLost
from coord.session.searcher import Searcher

_DUE = b"coord:{n/due}:idle"
_IS_USED = {"used"}.__contains__


class _Link:
    """A server that has some idle sets, in two parts, of which one has something due."""

    def __init__(self) -> None:
        self.cursors: list[bytes] = []
        self.looked: list[bytes] = []
        self.answer: Deferred[Any] | None = None
        self.lost = False

    def ask(self, *words: bytes) -> Deferred[Any]:
        """Return a part of the keys."""
        assert words[:1] + words[2:4] == (b"SCAN", b"MATCH", b"coord:{n/*}:idle")
        self.cursors.append(words[1])
        if self.lost:
            return fail(LinkLost())
        if self.answer is not None:
            return self.answer
        if words[1] == b"0":
            return succeed([b"7", [b"coord:{n/later}:idle", b"coord:{n/a b}:idle", b"coord:{n/x}:y}:idle"]])
        return succeed([b"0", [_DUE, b"coord:{n/used}:idle", b"coord:{n/@members}:idle"]])

    def run_script(self, _: object, keys: tuple[bytes], arguments: object) -> Deferred[Any]:
        """Say whether one has something due."""
        self.looked += keys
        return succeed([b"due"] if keys[0] == _DUE else [])


def test_w5_maps_that_nobody_uses_are_found() -> None:
    """W5: all keys are looked through, a part at each heartbeat, and again; what is no map, or used, is passed over."""
    link, found = _Link(), list[str]()
    searcher = Searcher("n", link, _IS_USED, found.append)  # type: ignore[arg-type]
    searcher.heartbeat(2)
    assert (link.cursors, link.looked, found) == ([b"0"], [b"coord:{n/later}:idle"], [])
    searcher.heartbeat(2)
    assert (link.cursors, link.looked[1:], found) == ([b"0", b"7"], [_DUE, b"coord:{n/@members}:idle"], ["due"])
    searcher.heartbeat(2)
    assert link.cursors[2:] == [b"0"]


def test_one_search_at_a_time() -> None:
    """A server that answers slowly is not asked again before it has; after a lost link the search begins anew."""
    link = _Link()
    searcher = Searcher("n", link, _IS_USED, lambda _: None)  # type: ignore[arg-type]
    searcher.heartbeat(2)
    link.answer = Deferred()
    for _ in range(2):
        searcher.heartbeat(2)
    assert link.cursors == [b"0", b"7"]
    link.answer.errback(LinkLost())
    link.answer = None
    searcher.heartbeat(2)
    assert link.cursors[2:] == [b"0"]


def test_few_of_many_nodes_search() -> None:
    """However many clients a server has, about twenty of them search at a heartbeat."""
    link = _Link()
    link.lost = True
    searcher = Searcher("n", link, _IS_USED, lambda _: None)  # type: ignore[arg-type]
    for _ in range(10_000):
        searcher.heartbeat(20_000)
    assert len(link.cursors) < 60
