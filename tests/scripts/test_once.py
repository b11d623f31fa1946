"""F5: calls that have a name."""

from __future__ import annotations

import pytest

from coord.core.calls import Call, CallName, Outcome, parse_reply
from coord.core.records import Kind
from scripts.maps import KIND_OF, Map, Operation
from scripts.servers import ServerError


def _named(mount: Map, operation: Operation, name: str = "job-17", caller: str = "") -> tuple[bytes, Outcome]:
    """Make one call under a name; return the reply and the outcome."""
    letter, key, data = operation
    kind = KIND_OF[letter]
    called = CallName.of("default", caller, name, kind, key.encode(), data)
    reply = mount.raw(operation, number=called.number, flags="n", incarnation=called.incarnation)
    call = Call(kind, key.encode(), data, 0.0, 0, name=called)
    (outcome,) = parse_reply(reply, [call], mount.node)
    return reply, outcome


@pytest.mark.parametrize("operation", [("F", "k", b"1"), ("X", "k", b'"bad"'), ("P", "k", b"1")])
def test_f5_another_node_is_answered_as_the_first_was(mount: Map, operation: Operation) -> None:
    """F5: a call made again under its name, by another node, is applied no second time, whatever happened since."""
    _, first = _named(mount, operation)
    mount.apply(("P", "k", b'"later"'))
    before = mount.dump()
    reply, again = _named(Map(mount.client, node="n2"), operation)
    assert reply.startswith(b"=")
    assert again == first
    assert again.stored is not None
    assert again.stored.node == "n1"
    assert mount.dump() == before


def test_f5_a_named_reset(mount: Map) -> None:
    """F5: a reset under a name is answered as before; the value that it kept goes when it no longer stands."""
    mount.fire("k", b"1")
    _, first = _named(mount, ("R", "k", b""))
    _, again = _named(Map(mount.client, node="n2"), ("R", "k", b""))
    assert again == first
    mount.fire("k", b"2")
    _, later = _named(Map(mount.client, node="n2"), ("R", "k", b""))
    assert later.first
    assert later.stored is not None
    assert (later.stored.kind, later.stored.data) == (Kind.RESET, None)


@pytest.mark.parametrize("other", [("F", "other", b"1"), ("P", "k", b"1"), ("F", "k", b"2"), ("R", "k", b"")])
def test_f5_another_call_under_the_name_is_refused(mount: Map, other: Operation) -> None:
    """F5: another key, operation or value under the same name is refused by name and changes nothing."""
    _named(mount, ("F", "k", b"1"))
    before = mount.dump()
    with pytest.raises(ServerError, match=r"^REUSED "):
        _named(Map(mount.client, node="n2"), other)
    assert mount.dump() == before


def test_f5_names_of_other_callers_and_maps_are_others(mount: Map) -> None:
    """F5: the name belongs to the caller that is named with it, and to the map."""
    assert _named(mount, ("P", "k", b"1"))[1].first
    assert _named(mount, ("P", "k", b"1"), caller="ci")[1].stored != _named(mount, ("P", "k", b"1"))[1].stored
    assert _named(Map(mount.client, name="other"), ("P", "k", b"1"))[1].first
    parts = [CallName.of("default", *names, Kind.FIRED, b"k", b"1") for names in (("a", "bc"), ("ab", "c"))]
    assert parts[0] != parts[1]


def test_f5_what_was_not_first_is_answered_so_again(mount: Map) -> None:
    """F5: a fire that found the key latched stays not first, also after a reset."""
    mount.fire("k", b"1")
    assert not _named(mount, ("F", "k", b"2"))[1].first
    mount.reset("k")
    _, again = _named(mount, ("F", "k", b"2"))
    assert not again.first
    assert again.stored is not None
    assert again.stored.data is None


def test_f5_a_refusal_is_not_kept(mount: Map) -> None:
    """F5: a call that was refused for its record may be made again under its name when that is mended."""
    mount.client.command("HSET", mount.names.records, "k", "junk")
    assert (_named(mount, ("F", "k", b"1"))[1].error or "").startswith("CORRUPT")
    mount.reset("k")
    assert _named(mount, ("F", "k", b"1"))[1].first


def test_f5_the_numbers_of_the_node_are_its_own(mount: Map) -> None:
    """F5: named calls between a node's other calls are no part of their numbers."""
    mount.fire("a")
    _named(mount, ("F", "b", b"1"))
    mount.raw(("F", "c", b"1"), number=2, before=1)
    mount.number = 2
    assert mount.fire("d").first


def test_b1_a_name_costs_little(mount: Map) -> None:
    """B1: what is kept of a named call on a large latched value is a few hundred bytes."""
    mount.fire("k", b'"%b"' % (b"x" * 60_000))
    called = CallName.of("default", "", "job", Kind.FIRED, b"k", b"1")
    mount.raw(("F", "k", b"1"), number=called.number, flags="n", incarnation=called.incarnation)
    kept = mount.client.command("HGET", mount.names.records, b"\0call:%b:1" % called.incarnation.encode())
    assert len(kept) < 150
