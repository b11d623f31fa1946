"""The link of one map of a cluster, with servers that answer when the test says so."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from math import inf
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from coord.core.names import HEAD
from coord.core.slots import Address, Atlas, slot_of
from coord.link.map_link import MapLink
from coord.link.replies import LinkLeft, LinkLost, ServerError
from coord.link.scripts import APPLY, IDLE
from coord.link.shards import Shards
from support.cluster import Seen

_TAG = b"default/m"
_SLOT = slot_of(_TAG)
_S, _T = Address("s", 1), Address("t", 2)
_KEY = b"coord:0:{default/m}:k"
_RECORDS = b"coord:{default/m}"


class _Shard:
    """A server whose link is up, and what it was asked."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.maps: dict[bytes, MapLink] = {}
        self.asked: list[tuple[Any, ...]] = []
        self.answers: list[Deferred[Any]] = []
        self.marks: list[Deferred[None]] = []
        self.abandoned: list[str] = []
        self.uses = 0
        self.link: Any = SimpleNamespace(
            up=True, trouble="", round_trip=inf, data=None, abandon=self.abandoned.append, has_still=lambda _: False
        )
        maps = SimpleNamespace(classic=False, mark=self._mark, join=self._join, leave=self._join)
        command = SimpleNamespace(ask=self._ask, ask_as_guest=self._ask_as_guest)
        self.connections: Any = SimpleNamespace(command=command, maps=maps, process=str(address).encode())

    def use(self) -> None:
        """Count it."""
        self.uses += 1

    def touch(self, _: object) -> None:
        """Deliver nothing together."""

    def _mark(self) -> Deferred[None]:
        self.marks.append(Deferred())
        return self.marks[-1]

    def _join(self, slot: int, channels: Sequence[bytes], *, guest: bool) -> None:
        self.asked.append(("guest" if guest else "home", slot, *channels))

    def _ask(self, *args: bytes, others_first: bool = False) -> Deferred[Any]:
        self.asked.append(args[:1])
        self.answers.append(Deferred())
        return self.answers[-1]

    def _ask_as_guest(self, *args: bytes, others_first: bool = False) -> Deferred[Any]:
        self.asked.append(("ASKING", *args[:1]))
        self.answers.append(Deferred())
        return self.answers[-1]

    def answer(self, *replies: object) -> None:
        """Answer the oldest commands."""
        for reply in replies:
            answer = self.answers.pop(0)
            if isinstance(reply, str):
                answer.errback(ServerError(reply))
            else:
                answer.callback(reply)

    def admit(self) -> None:
        """Let the map in."""
        self.answer([None])
        self.marks.pop(0).callback(None)
        self.asked.clear()


class _Map:
    """A map of a cluster of two servers, and what its session is told."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.atlas = Atlas()
        self.atlas.answered([(0, 16383, _S, ())])  # type: ignore[list-item]
        self.s, self.t = _Shard(_S), _Shard(_T)
        self.trouble = ""
        self.moves = self.guests = self.questions = 0
        self.target: Any = None
        self.told: list[str] = []
        self.receive_context = nullcontext()
        shards: Any = self
        self.link = MapLink(shards, _TAG)
        self.links = {self.link: None}
        self.place_all = partial(Shards.place_all, shards)

    def shard(self, address: Address) -> _Shard:
        """Return a server."""
        return self.s if address == _S else self.t

    def refresh(self) -> None:
        """Count it."""
        self.questions += 1

    def remapped(self, address: Address, asked: Address) -> Address:
        """Return it as it is."""
        return address

    def answered(self, owner: Address) -> None:
        """Have a server say who serves all slots."""
        self.atlas.answered([(0, 16383, owner, ())])  # type: ignore[list-item]
        self.link.place()

    def forget(self, link: MapLink) -> None:
        """Note it."""
        self.told.append("forgotten")

    def link_made(self) -> None:
        """Note it."""
        self.told.append("made")

    def link_lost(self, reason: str) -> None:
        """Note it."""
        self.told.append(f"lost: {reason}")

    def attempt_failed(self, reason: str) -> None:
        """Note it."""
        self.told.append(f"failed: {reason}")

    def heartbeat(self) -> None:
        """Note it."""
        self.told.append("beat")

    def take(self) -> list[str]:
        """Return what the session was told since the last time."""
        told, self.told = self.told, []
        return told

    def home(self) -> _Map:
        """Have the map at its first server."""
        receiver: Any = self
        self.link.start(receiver)
        self.s.admit()
        assert self.take() == ["made"]
        return self

    def guest(self) -> _Map:
        """Have it follow an ASK."""
        asked = Seen(self.home().link.ask(b"HGET", _RECORDS))
        self.s.answer(f"ASK {_SLOT} t:2")
        assert [type(error) for error in asked.errors] == [LinkLeft]
        self.t.admit()
        assert self.take() == [f"lost: s:1 ASK {_SLOT} t:2", "made"]
        return self


def test_a_map_is_home_once_it_was_read_there() -> None:
    """The server's word that the link is up is not enough, nor is the read before what came earlier has passed."""
    map_ = _Map()
    receiver: Any = map_
    map_.link.start(receiver)
    assert map_.s.asked == [(b"HMGET",)]
    map_.s.answer([None])
    assert (map_.link.up, map_.take()) == (False, [])
    map_.s.marks[0].callback(None)
    assert (map_.link.up, map_.take(), map_.link.process) == (True, ["made"], b"s:1")


def test_it_says_whether_answers_were_lost_to_a_move() -> None:
    """So a listing knows that no answer was too large; once the map is at a server, a loss is one of the link again."""
    map_ = _Map().home()
    moved: list[bool] = []
    for shard, other in ((map_.s, map_.t), (map_.t, map_.s)):
        answers = [Seen(map_.link.ask(b"HSCAN")) for _ in range(2)]
        shard.answer(f"MOVED {_SLOT} {other.address}")
        moved.append(map_.link.moving)
        other.admit()
        # What the server of the last stay has not answered is lost by now, and was while it moved.
        assert [len(answer.errors) for answer in answers] == [1, 1]
        moved.append(map_.link.moving)
        shard.answers.clear()
    assert moved == [True, False, True, False]
    map_.link.shard_lost("cut")
    assert not map_.link.moving


@pytest.mark.parametrize("message", [f"MOVED {_SLOT} t:2", f"ASK {_SLOT} t:2"])
def test_f3_a_refusal_is_certain(message: str) -> None:
    """F3: no batch under way was applied: the first is refused, and so are the others, a moment later."""
    map_ = _Map().home()
    batches = [Seen(map_.link.run_script(APPLY, [_RECORDS], [])) for _ in range(3)]
    map_.s.answer(message)
    assert map_.take() == [f"lost: s:1 {message}"]
    map_.s.answer(message, "TRYAGAIN Multiple keys request during rehashing of slot")
    assert [[type(error) for error in batch.errors] for batch in batches] == 3 * [[LinkLeft]]
    map_.t.admit()
    assert map_.take() == ["made"]
    assert map_.link.guest is message.startswith("ASK")
    assert (map_.atlas.owner(_SLOT) == _T) is message.startswith("MOVED"), "an ASK assigns nothing"


@pytest.mark.parametrize("verb", [b"HMGET", b"HGET"])
def test_a_guest_that_finds_nothing_asks_the_other_server(verb: bytes) -> None:
    """The move may have been called off and begun anew: then the old server has the data, and the new one none."""
    map_ = _Map().guest()
    map_.link.subscribe([_KEY])
    map_.s.asked.clear()
    nothing = [None, None] if verb == b"HMGET" else None
    empty = Seen(map_.link.ask(verb, _RECORDS))
    map_.t.answer(nothing)
    assert (empty.count, map_.s.asked) == (0, [(verb,)])
    map_.s.answer(f"ASK {_SLOT} t:2")
    assert (empty.values, map_.take()) == ([nothing], [])
    found = Seen(map_.link.ask(verb, _RECORDS))
    map_.t.answer(nothing)
    map_.s.answer([b"head", None] if verb == b"HMGET" else b"record")
    assert [type(error) for error in found.errors] == [LinkLeft]
    assert map_.take() == ["lost: s:1 serves the map again: its move was called off"]
    assert (map_.link.shard, map_.link.guest) == (map_.s, False)
    assert map_.t.asked[-1] == ("guest", _SLOT, _KEY), "that subscription is ended"


@pytest.mark.parametrize(
    ("verb", "nothing", "something"),
    [
        (b"ZRANGEBYLEX", [], [b"\0lease\0holder"]),
        (b"ZSCORE", None, b"0"),
        (b"ZLEXCOUNT", 0, 2),
    ],
)
def test_l4_a_guest_waits_for_the_holders_that_have_not_moved(verb: bytes, nothing: Any, something: Any) -> None:
    """L4: they have a key of their own, so nobody is told that there are none while they are at the other server."""
    map_ = _Map().guest()
    asked = [Seen(map_.link.ask(verb, _RECORDS + b":entries")) for _ in range(3)]
    map_.t.answer(something, nothing, nothing)
    map_.s.answer(something, f"ASK {_SLOT} t:2")
    assert [(each.values, list(map(str, each.errors))) for each in asked] == [
        ([something], []),
        ([], ["TRYAGAIN not all keys of the map have moved"]),
        ([nothing], []),
    ]
    assert (map_.take(), map_.link.guest) == ([], True)


@pytest.mark.parametrize("something", [True, False])
def test_a_guest_that_lists_nothing_asks_the_other_server(something: bool) -> None:
    """The move may have been called off and begun anew."""
    map_ = _Map().guest()
    listed = Seen(map_.link.ask(b"HSCAN", _RECORDS, b"0"))
    if something:
        map_.t.answer([b"0", [b"k", b"v"]])
        assert (listed.count, map_.s.answers) == (1, [])
    else:
        map_.t.answer([b"0", []])
        map_.s.answer([b"0", [b"k", b"v"]])
        assert ([type(error) for error in listed.errors], map_.link.shard) == ([LinkLeft], map_.s)


def test_l13_a_guest_waits_for_acknowledgements_that_have_not_moved() -> None:
    """L13: they have keys of their own, so that the map's are at the new server already says nothing of them."""
    map_ = _Map().guest()
    found = Seen(map_.link.ask(b"HMGET", _RECORDS + b"/acks", HEAD))
    map_.t.answer([None])
    map_.s.answer([b"head"])
    assert [str(error) for error in found.errors] == ["TRYAGAIN not all keys of the map have moved"]
    assert (map_.take(), map_.link.guest) == ([], True), "it is not lost"


def test_w5_a_map_that_follows_an_ask_ends_its_subscriptions() -> None:
    """W5: the server that gives the map away keeps them, and has the map again if the move is called off."""
    map_ = _Map().home()
    map_.link.subscribe([_KEY])
    map_.link.ask(b"HGET", _RECORDS).addErrback(lambda _: None)
    map_.s.asked.clear()
    map_.s.answer(f"ASK {_SLOT} t:2")
    assert map_.s.asked == [("home", _SLOT, _KEY)]


def test_a_guest_asks_the_other_server_at_each_heartbeat() -> None:
    """It may have nothing to read, and calls are only put off where the data do not come."""
    map_ = _Map().guest()
    map_.s.asked.clear()
    map_.link.heartbeat()
    map_.s.answer(f"ASK {_SLOT} t:2")
    assert (map_.s.asked, map_.take()) == ([(b"HMGET",)], ["beat"])
    map_.link.heartbeat()
    map_.s.answer([b"head"])
    assert map_.take() == ["beat", "lost: s:1 serves the map again: its move was called off"]


def test_what_the_other_server_said_in_an_earlier_stay_does_not_count() -> None:
    """The move may have ended meanwhile: the map stays where it has come to since."""
    map_ = _Map().guest()
    map_.link.heartbeat()
    map_.atlas.moved(_SLOT, _T)
    map_.link.left()
    map_.t.admit()
    assert map_.take()[-1] == "made"
    map_.s.answer([b"head"])
    assert (map_.link.shard, map_.take()) == (map_.t, [])


def test_who_is_no_guest_any_more_believes_that_there_is_nothing() -> None:
    """The other server is asked for nothing: it does not have the slot."""
    map_ = _Map().guest()
    found = Seen(map_.link.ask(b"HMGET", _RECORDS))
    map_.atlas.answered([(0, 16383, _T, ())])  # type: ignore[list-item]
    map_.link.settle()
    read, settled = map_.t.answers
    map_.t.answers = [settled]
    map_.t.answer([None])
    assert not map_.link.guest
    map_.s.asked.clear()
    read.callback([None])
    assert (found.values, map_.s.asked) == ([[None]], [])


def test_a_guest_that_never_came_asks_the_other_server() -> None:
    """There may never be a link to the server that ASK has named: if the move is called off, the map is home."""
    map_ = _Map().home()
    map_.t.connections = None
    map_.link.ask(b"HGET", _RECORDS).addErrback(lambda _: None)
    map_.s.answer(f"ASK {_SLOT} t:2")
    assert (map_.link.shard, map_.take()) == (map_.t, [f"lost: s:1 ASK {_SLOT} t:2"])
    map_.link.ask_source()
    assert map_.s.uses == 1
    map_.s.answer(f"ASK {_SLOT} t:2")
    map_.link.ask_source()
    map_.s.answer([b"head"])
    map_.s.admit()
    assert (map_.link.shard, map_.take()) == (map_.s, ["made"])
    map_.link.ask_source()
    assert map_.s.asked == [], "it is no guest any more"


def test_a_guest_asks_the_server_that_has_replaced_the_other_one() -> None:
    """That may have lost its link for good: whoever has the slot now knows whether it moves."""
    map_ = _Map().guest()
    map_.s.connections = None
    map_.link.ask_source()
    replica = map_.s = _Shard(_S)
    map_.link.ask_source()
    replica.answer(f"MOVED {_SLOT} s:1")
    assert (replica.asked, map_.link.guest) == ([(b"HMGET",)], True), "who has named it lags behind"
    replica = map_.s = _Shard(_S)
    map_.link.ask_source()
    replica.answer([None])
    assert map_.link.shard is replica


def test_a_key_of_the_map_that_has_moved_alone_does_not_lead_it_away() -> None:
    """Its records would lead it back at once. They are read, so that it follows them if they have moved, too."""
    map_ = _Map().home()
    alone = Seen(map_.link.run_script(IDLE, [_RECORDS + b":idle"], []))
    map_.s.answer(f"ASK {_SLOT} t:2")
    assert [str(error) for error in alone.errors] == ["TRYAGAIN not all keys of the map have moved"]
    assert (map_.s.asked, map_.link.up) == ([(b"EVALSHA",), (b"HMGET",)], True)
    map_.s.answer([b"head"])
    assert (map_.link.shard, map_.take()) == (map_.s, [])
    map_.link.run_script(IDLE, [_RECORDS + b":idle"], []).addErrback(lambda _: None)
    map_.s.answer(f"ASK {_SLOT} t:2", f"ASK {_SLOT} t:2")
    map_.t.admit()
    assert (map_.link.guest, map_.take()) == (True, [f"lost: s:1 ASK {_SLOT} t:2", "made"])


def test_a_refusal_about_another_slot_moves_nothing() -> None:
    """A raw command may name any key: its user is told where that is, and the map stays."""
    map_ = _Map().home()
    raw = Seen(map_.link.ask(b"GET", b"k"))
    map_.s.answer(f"MOVED {_SLOT + 1} t:2")
    assert [type(error) for error in raw.errors] == [ServerError]
    assert (map_.link.shard, map_.atlas.owner(_SLOT), map_.take()) == (map_.s, _S, [])


def test_w5_a_map_that_goes_elsewhere_ends_its_subscriptions() -> None:
    """W5: if another server serves it, its last one may have it still, and would keep them."""
    map_ = _Map().home()
    map_.link.subscribe([_KEY])
    map_.s.asked.clear()
    map_.answered(_T)
    assert (map_.s.asked, map_.link.shard, map_.take()) == ([], map_.s, [])
    map_.t.answer([None])
    assert (map_.s.asked, map_.link.shard) == ([("home", _SLOT, _KEY)], map_.t)
    map_.t.admit()
    assert map_.take() == ["lost: the map has moved to t:2", "made"]


@pytest.mark.parametrize("message", [f"MOVED {_SLOT} s:1", "CLUSTERDOWN The cluster is down", "LOADING it loads"])
def test_a_map_stays_at_home_if_the_server_that_is_named_does_not_serve_it(message: str) -> None:
    """Who has named it lags behind: nothing is lost for that, however often it says so."""
    map_ = _Map().home()
    for _ in range(3):
        map_.answered(_T)
        assert map_.t.asked.pop() == (b"HMGET",)
        map_.t.answer(message)
    assert (map_.link.up, map_.link.shard, map_.take()) == (True, map_.s, [])
    map_.answered(_T)
    map_.t.answer([None])
    map_.t.admit()
    assert (map_.link.shard, map_.take()) == (map_.t, ["lost: the map has moved to t:2", "made"])


def test_a_server_that_is_named_is_read_once_its_link_is_up() -> None:
    """Until then the map stays where it is served."""
    map_ = _Map().home()
    connections, map_.t.connections = map_.t.connections, None
    map_.answered(_T)
    assert (map_.t.asked, map_.take()) == ([], [])
    map_.t.connections = connections
    map_.link.place()
    map_.t.answer([None])
    assert map_.link.shard is map_.t


def test_a_read_that_comes_too_late_leads_nowhere() -> None:
    """The map has gone by then, or a later answer names its own server again."""
    map_ = _Map().home()
    map_.answered(_T)
    map_.answered(_S)
    map_.t.answer([None])
    assert (map_.link.shard, map_.take()) == (map_.s, [])
    map_.answered(_T)
    map_.link.left()
    map_.link.place()
    map_.take()
    map_.t.answer([None])
    map_.t.admit()
    assert map_.take() == ["made"]


def test_an_older_answer_does_not_stop_a_map_on_its_way() -> None:
    """MOVED counts more than answers until the map was read where it leads; from then on, they lead it on."""
    map_ = _Map().home()
    map_.link.ask(b"HGET", _RECORDS).addErrback(lambda _: None)
    map_.s.answer(f"MOVED {_SLOT} t:2")
    for owner in (_T, _S):
        map_.answered(owner)
        assert map_.link.shard is map_.t
    map_.t.admit()
    map_.s.asked.clear()
    map_.answered(_S)
    assert (map_.s.asked, map_.link.shard) == ([(b"HMGET",)], map_.t)
    map_.s.answer([None])
    assert map_.link.shard is map_.s


def test_an_answer_leads_a_map_away_from_a_server_that_moved_has_named_and_that_does_not_serve_it() -> None:
    """After a few refusals, answers count again: it may have been cut off from the cluster."""
    map_ = _Map().home()
    map_.link.ask(b"HGET", _RECORDS).addErrback(lambda _: None)
    map_.s.answer(f"MOVED {_SLOT} t:2")
    for _ in range(3):
        map_.answered(_S)
        assert map_.link.shard is map_.t
        map_.t.answer("CLUSTERDOWN The cluster is down")
        map_.clock.advance(0.5)
    map_.answered(_S)
    assert map_.link.shard is map_.s


def test_a_guest_that_finds_something_asks_nobody_else() -> None:
    """Once the data are there, they are nowhere else."""
    map_ = _Map().guest()
    map_.s.asked.clear()
    seen = Seen(map_.link.ask(b"HMGET"))
    map_.t.answer([b"head", None])
    assert (seen.values, map_.s.asked) == ([[b"head", None]], [])


def test_f2_what_was_answered_before_the_map_left_is_in_doubt() -> None:
    """F2: an answer that comes after the map has left is no answer, and none that never comes is waited for."""
    map_ = _Map().home()
    late, never = Seen(map_.link.ask(b"HGET", _RECORDS)), Seen(map_.link.ask(b"HGET"))
    map_.link.left()
    assert map_.take() == ["lost: the server has ended its subscriptions: the map's slot has moved"]
    map_.s.answer(b"value")
    assert [type(error) for error in late.errors] == [LinkLost]
    assert never.count == 0
    never_answered = map_.s.answers.pop(0)
    map_.s.admit()
    assert [type(error) for error in never.errors] == [LinkLost]
    never_answered.callback(b"value")
    assert map_.take() == ["made"]


def test_a_guest_asks_and_calls_across() -> None:
    """Each command of a guest stands behind ASKING, and who still listens at the source is told to read."""
    map_ = _Map().guest()
    map_.link.ask(b"HGET", _RECORDS)
    map_.link.run_script(APPLY, [_RECORDS], [])
    map_.link.subscribe([_KEY])
    assert map_.t.asked == [("ASKING", b"HGET"), ("ASKING", b"EVALSHA"), ("guest", _SLOT, _KEY)]
    map_.s.asked.clear()
    map_.link.call_across([_KEY])
    assert map_.s.asked == [(b"SPUBLISH",)]
    map_.t.answer(b"value", "NOSCRIPT no such script")
    assert map_.t.asked[-1] == ("ASKING", b"EVAL")


def test_a_guest_whose_move_is_called_off_goes_home() -> None:
    """The target says MOVED, though it has ended no subscription; the read at the source tells that it is home."""
    map_ = _Map().guest()
    read = Seen(map_.link.ask(b"HMGET"))
    map_.t.answer(f"MOVED {_SLOT} s:1")
    assert [type(error) for error in read.errors] == [LinkLeft]
    map_.s.admit()
    assert (map_.link.guest, map_.take()) == (False, [f"lost: t:2 MOVED {_SLOT} s:1", "made"])


def test_a_guest_is_at_home_once_the_slot_has_come() -> None:
    """Nobody tells it: an answer about the slots does, and nothing is lost or made for that."""
    map_ = _Map().guest()
    map_.atlas.answered([(0, 16383, _T, ())])  # type: ignore[list-item]
    for reply in (f"MOVED {_SLOT} s:1", [b"head"]):
        map_.link.settle()
        map_.t.answer(reply)
        map_.link.place()
    map_.link.ask(b"HGET", _RECORDS)
    assert (map_.t.asked, map_.take()) == ([(b"HMGET",), (b"HMGET",), (b"HGET",)], [])


def test_a_guest_is_no_guest_while_an_answer_speaks_of_an_earlier_time() -> None:
    """The slot was the new server's before, and comes back to it: to be home there too early is to be led away."""
    map_ = _Map().guest()
    map_.atlas.answered([(0, 16383, _T, ())])  # type: ignore[list-item]
    map_.link.settle()
    map_.t.answer(f"MOVED {_SLOT} s:1")
    map_.link.ask(b"HGET", _RECORDS)
    assert (map_.t.asked, map_.take()) == ([(b"HMGET",), ("ASKING", b"HGET")], [])


def test_a_node_that_is_closed_as_its_map_leaves_a_server_has_no_timer() -> None:
    """A callback of on_link may close it; the map goes nowhere any more, not even later."""
    for lost in (False, True):
        map_ = _Map().home()
        for shard, other in 2 * ((map_.s, map_.t), (map_.t, map_.s)):
            map_.link.ask(b"HGET", _RECORDS).addErrback(lambda _: None)
            shard.answer(f"MOVED {_SLOT} {other.address}")
            map_.clock.advance(0.5)
            other.admit()
        receiver: Any = map_
        receiver.link_lost = lambda _, link=map_.link: link.close()
        if lost:
            map_.link.shard_lost("cut")
        else:
            map_.link.ask(b"HGET", _RECORDS).addErrback(lambda _: None)
            map_.s.answer(f"MOVED {_SLOT} t:2")
        assert (map_.take()[-1], map_.clock.getDelayedCalls()) == ("forgotten", [])


def test_a_push_of_the_new_owner_makes_the_map_come_again_where_it_is() -> None:
    """Valkey's new owner ends the subscriptions of those who came early: they subscribe there again."""
    map_ = _Map().guest()
    map_.atlas.moved(_SLOT, _T)
    map_.link.left()
    map_.t.admit()
    assert map_.take() == ["lost: the server has ended its subscriptions: the map's slot has moved", "made"]
    assert not map_.link.guest


def test_a_guest_that_is_lost_is_placed_once_the_slot_has_a_server() -> None:
    """It is nobody's guest any more, so whoever is known to serve the map next gets it."""
    map_ = _Map().guest()
    map_.atlas.answered([])
    map_.link.shard_lost("cut")
    map_.clock.advance(0)
    assert map_.take() == ["lost: cut", "failed: no server of the cluster serves the map's slot"]
    map_.atlas.answered([(0, 16383, _S, ())])  # type: ignore[list-item]
    map_.place_all()
    assert map_.link.shard is map_.s


def test_two_servers_that_name_each_other_are_not_asked_without_a_pause() -> None:
    """After a few refusals in a row there is a pause, longer each time, until a heartbeat."""
    map_ = _Map()
    receiver: Any = map_
    map_.link.start(receiver)
    for number in range(8):
        shard, other = (map_.s, "t:2") if number % 2 == 0 else (map_.t, "s:1")
        assert bool(shard.answers) is (number <= 3)
        if number > 3:
            pause = 0.02 * 2 ** (number - 4)
            map_.clock.advance(pause * 0.9)
            assert not shard.answers
            map_.clock.advance(pause * 0.2)
        shard.answer(f"MOVED {_SLOT} {other}")
    assert map_.take() == []


@pytest.mark.parametrize("message", ["CLUSTERDOWN The cluster is down", "BUSY busy"])
def test_a_map_waits_for_a_server_that_does_not_serve_now(message: str) -> None:
    """The reason is told, and the server is asked again after a pause."""
    map_ = _Map()
    receiver: Any = map_
    map_.link.start(receiver)
    map_.s.answer(message)
    assert map_.take() == [f"failed: {message}"]
    assert map_.questions == 1
    map_.clock.advance(0.5)
    map_.s.marks.pop(0)
    map_.s.admit()
    assert map_.take() == ["made"]


def test_a_server_that_is_none_any_more_is_left_by_all() -> None:
    """A demoted server's link is given up: it is not this map's alone."""
    map_ = _Map().home()
    refused = Seen(map_.link.ask(b"HSET"))
    map_.s.answer("READONLY You can't write against a read only replica.")
    assert [type(error) for error in refused.errors] == [LinkLeft]
    assert len(map_.s.abandoned) == 1


def test_a_closed_map_leaves_nothing_behind() -> None:
    """Its subscriptions end, its commands fail, and it goes nowhere any more."""
    map_ = _Map().home()
    map_.link.subscribe([_KEY])
    open_ = Seen(map_.link.ask(b"HGET", _RECORDS))
    map_.s.asked.clear()
    map_.link.close()
    assert map_.s.asked == [("home", _SLOT, _KEY)]
    assert [type(error) for error in open_.errors] == [LinkLost]
    map_.s.answer(f"MOVED {_SLOT} t:2")
    map_.link.place()
    assert (map_.take(), map_.s.maps, map_.t.maps, map_.clock.getDelayedCalls()) == (["forgotten"], {}, {}, [])
