"""Listings: what stands, whole or in pages that are bounded in records and in bytes."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import pytest

from coord import CorruptRecord, EventMap, InvalidInput, InvalidKey, LinkState, ListingLost, Page, Unreachable
from coord.core.records import NEVER
from coord.link.link import Link
from support.cluster import Cluster, Seen
from support.waiting import until
from support.watcher import Watcher

RECORDS = "coord:{default/m}"

FOREIGN = {
    b"\x1b[2J\nforged\tfired": r"\x1b[2J\nforged\tfired",
    b"nul\0": r"nul\x00",
    b"latin-\xe9": r"latin-\xe9",
    b"k" * 513: "k" * 197 + "...",
    b"": "",
}
"""What may stand in a map under a name that can be no key, and how it is shown."""


async def _fill(events: EventMap, keys: list[str], value: object = True) -> None:
    fired = Seen(*(events.fire(key, value) for key in keys))
    await until(lambda: fired.count == len(keys), patience=20)
    assert fired.errors == []


async def _pages(events: EventMap, prefix: str = "", limit: int = 500) -> list[Page]:
    return [page async for page in events.pages(prefix, limit)]


def _keys(pages: list[Page]) -> list[str]:
    return [record.key for page in pages for record in page.records]


class Wire:
    """Counts the bytes of the answers to commands."""

    def __init__(self) -> None:
        self.answers: list[int] = []
        ask = Link.ask

        def counted(link: Link, *words: bytes) -> Any:
            return ask(link, *words).addCallback(self._count)

        self._patch = patch.object(Link, "ask", counted)

    def __enter__(self) -> Wire:
        self._patch.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._patch.stop()

    def _count(self, reply: Any) -> Any:
        self.answers.append(_size(reply))
        return reply


def _size(reply: Any) -> int:
    return sum(map(_size, reply)) if isinstance(reply, list) else len(reply or b"")


async def test_listing_in_pages(cluster: Cluster) -> None:
    """Pages together have every key, each about as many as asked for, as of the revision of the first."""
    events = await cluster.map()
    keys = [f"k{number}" for number in range(1200)]
    await _fill(events, keys)
    before = (await events.page()).revision
    pages = []
    async for page in events.pages(limit=100):
        pages.append(page)
        await events.pulse("k1", len(pages))
    assert sorted(_keys(pages)) == sorted(keys)
    assert {page.revision for page in pages} == {before}
    assert len(pages) > 8
    assert max(len(page.records) for page in pages) < 200
    assert [page.next is None for page in pages] == [False] * (len(pages) - 1) + [True]
    watcher = Watcher(events, since=pages[-1].revision)
    await until(lambda: len(watcher.records) == len(pages))
    watcher.stop()
    some = await _pages(events, "k11")
    assert sorted(_keys(some)) == sorted(key for key in keys if key.startswith("k11"))


async def test_listing_of_nothing(cluster: Cluster) -> None:
    """A map of which nothing is known has one empty page, as of no revision; so has a prefix that no key has."""
    events = await cluster.map()
    assert await events.page() == Page((), NEVER, None)
    await _fill(events, ["k"])
    page = await events.page("x")
    assert (page.records, page.next) == ((), None)
    assert page.revision > NEVER


@pytest.mark.parametrize(
    ("prefix", "decoys"),
    [
        ("a?", ["ab", "a"]),
        ("a*", ["ab", "a"]),
        ("[ab]", ["a", "b", "ab"]),
        ("[^b]", ["a", "^", "c"]),
        ("[a-c]", ["a", "b", "-"]),
        ("a\\", ["a*", "a", "ab"]),
        ("\\?", ["?", "?b"]),
        ("^a", ["a"]),
        ("a]", ["a", "ab"]),
        ("a[", ["a", "ab"]),
        ("!x", ["x"]),
        ("\\", ["a*", "*"]),
    ],
)
async def test_listing_of_a_prefix_with_signs(cluster: Cluster, prefix: str, decoys: list[str]) -> None:
    """Whatever a pattern of Redis could take a prefix for, it is text."""
    events = await cluster.map()
    await _fill(events, [prefix, prefix + "more", *decoys])
    assert [record.key for record in (await events.records(prefix)).records] == [prefix, prefix + "more"]


async def test_listing_leaves_outcomes_on_the_server(cluster: Cluster) -> None:
    """Ten thousand outcomes of calls cost a listing nothing on the wire, with a prefix or without one."""
    events = await cluster.map()
    await _fill(events, ["a", "b"])
    for start in range(0, 10_000, 1000):
        fields = [(f"\0call:{number:032}:1", "1\n1 1 1\n+") for number in range(start, start + 1000)]
        await cluster.server.command("HSET", RECORDS, *[word for field in fields for word in field])
    for prefix, keys in (("", ["a", "b"]), ("b", ["b"])):
        with Wire() as wire:
            listing = await events.records(prefix)
        assert [record.key for record in listing.records] == keys
        assert listing.corrupt == ()
        assert sum(wire.answers) < 1000


@pytest.mark.servers("memory", "redis", "valkey")
async def test_listing_is_bounded_in_bytes(cluster: Cluster) -> None:
    """However large the values: no answer is much larger than a megabyte, and no page either.

    A bucket of Valkey's has seven fields, and more where the table is being resized; it is answered as a whole.
    """
    events = await cluster.map()
    await _fill(events, [f"k{number}" for number in range(150)], "x" * 60_000)
    with Wire() as wire:
        pages = await _pages(events, limit=1000)
    assert len(set(_keys(pages))) == 150
    assert max(wire.answers) < 3 << 19
    assert max(sum(len(str(record.value)) for record in page.records) for page in pages) < 2 << 20


@pytest.mark.servers("redis", "valkey")
async def test_listing_asks_for_less_after_a_cut(cluster: Cluster) -> None:
    """An answer that is over the server's limit of output is not asked for again in the same size for ever."""
    limit = "client-output-buffer-limit"
    (_, default) = await cluster.server.command("CONFIG", "GET", limit)
    events = await cluster.map()
    await _fill(events, [f"k{number}" for number in range(300)], "x" * 10_000)
    await cluster.of(events).events("large").fire("k", "x" * 60_000)
    cluster.reconnect_quickly()
    node = await cluster.linked("reader")
    try:
        # A bucket of Valkey's has seven fields, or more: an answer can be no smaller.
        await cluster.server.command("CONFIG", "SET", limit, "normal 220kb 0 0")
        assert len((await node.events("m").records()).records) == 300
        assert 1 < node.statistics().connection_attempts < 8
        await cluster.server.command("CONFIG", "SET", limit, "normal 30kb 0 0")
        with pytest.raises(Unreachable, match=r"lost on each of 10 tries .* client-output-buffer-limit"):
            await node.events("large").page()
    finally:
        await cluster.server.command("CONFIG", "SET", limit, default)


async def test_listing_goes_on_over_a_cut(cluster: Cluster) -> None:
    """A link that is lost between two pages, or in one, is nothing to a listing: the same process knows the next."""
    events, gate = await cluster.gated()
    keys = [f"k{number}" for number in range(600)]
    await _fill(events, keys)
    pages = [await events.page(limit=50)]
    while pages[-1].next is not None:
        gate.cut()
        pages.append(await events.page(after=pages[-1].next, limit=100))
    assert sorted(_keys(pages)) == sorted(keys)


async def test_listing_lost_with_the_server_process(cluster: Cluster) -> None:
    """Another process knows no next page, and says so; a listing of all at once begins again by itself."""
    events = await cluster.map()
    keys = [f"k{number}" for number in range(1500)]
    await _fill(events, keys)
    page = await events.page(limit=10)
    pages = events.pages(limit=10)
    await pages.__anext__()
    listing = events.records()
    await cluster.server.stop()
    await cluster.server.start()
    await cluster.state(cluster.of(events), LinkState.CONNECTED)
    with pytest.raises(ListingLost, match=r"m: another server process .* begin the listing again"):
        await events.page(after=page.next)
    with pytest.raises(ListingLost):
        await pages.__anext__()
    assert len((await listing).records) == 1500
    assert sorted(_keys(await _pages(events))) == sorted(keys)


async def test_listing_bad_arguments(cluster: Cluster) -> None:
    """What is no prefix, no limit and no page's next is refused at the call."""
    events = await cluster.map()
    after: Any
    for after in ("", "0", "1-2-3", 5, b"x", "x" * 100_000, f"{1 << 70}-a-1.1-1-1", "0-a-1.1-1-1\n"):
        with pytest.raises(InvalidInput, match="after"):
            events.page(after=after)
    limit: Any
    for limit in (0, -1, 100_001, 2.5, "5", None, True):
        with pytest.raises(InvalidInput, match="limit"):
            events.page(limit=limit)
        with pytest.raises(InvalidInput, match="limit"):
            events.pages(limit=limit)
    prefix: Any
    for prefix in (b"tank", "a\nb", "x" * 513):
        for listing in (events.page, events.pages, events.records):
            with pytest.raises(InvalidKey):
                listing(prefix)


async def test_listing_of_foreign_fields(cluster: Cluster) -> None:
    """What stands under a name that can be no key is corrupt, escaped, for that name alone; and it can be removed."""
    events = await cluster.map()
    await _fill(events, ["a", "corrupt"])
    genuine = await cluster.server.command("HGET", RECORDS, "a")
    await cluster.server.command("HSET", RECORDS, "corrupt", "junk")
    for field in FOREIGN:
        await cluster.server.command("HSET", RECORDS, field, genuine)
    listing = await events.records()
    assert [record.key for record in listing.records] == ["a"]
    assert sorted(listing.corrupt) == sorted([*FOREIGN.values(), "corrupt"])
    assert sorted((await events.page()).corrupt) == sorted(listing.corrupt)
    own = await cluster.server.command("HKEYS", RECORDS)
    assert sorted(await events.remove_foreign()) == sorted(FOREIGN.values())
    assert await events.remove_foreign() == ()
    left = await cluster.server.command("HKEYS", RECORDS)
    assert sorted(left) == sorted(field for field in own if field not in FOREIGN)
    assert (await events.records()).corrupt == ("corrupt",)
    assert not (await events.fire("a")).first


async def test_listing_of_a_broken_head(cluster: Cluster) -> None:
    """A map whose head is not coord's cannot be listed, and says so; nor can one of another type."""
    events = await cluster.map()
    await cluster.server.command("HSET", RECORDS, "\0head", "junk")
    for asked in (events.records(), events.page(), events.remove_foreign()):
        with pytest.raises(CorruptRecord):
            await asked
    other = cluster.of(events).events("other")
    await cluster.server.command("SET", "coord:{default/other}", "junk")
    with pytest.raises(CorruptRecord):
        await other.page()


@pytest.mark.servers("memory", "redis", "valkey")
async def test_maps_of_a_namespace(cluster: Cluster) -> None:
    """Every map that has data, of this namespace alone, whatever else is on the server."""
    node = await cluster.linked()
    assert await node.maps() == ()
    names = ["m", "a.b", "_", "-x", "0"]
    for name in names:
        await node.events(name).fire("k")
    other = cluster.node(namespace="def.ult")
    await other.events("theirs").fire("k")
    await cluster.server.command("SET", "coord:{default/string}", "junk")
    await cluster.server.command("HSET", "coord:{default/a b}", "k", "v")
    await cluster.server.command("HSET", "coord:{defXult/no}", "k", "v")
    await cluster.server.command("HSET", "coord:{default/x}:y}", "k", "v")
    for number in range(2500):
        await cluster.server.command("HSET", f"other:{number}", "k", "v")
    assert await node.maps() == tuple(sorted(names))
    assert await other.maps() == ("theirs",)
