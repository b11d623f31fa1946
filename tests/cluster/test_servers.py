"""What a server does while a slot moves and at a failover: what coord relies on, and what it has to expect.

The servers in memory do it as the real ones do, by the same tests.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from cluster.client import Client, connected
from cluster.moving import Move, Step, slot_of
from support.waiting import eventually

CHANNEL = "coord:0:{m}:k"
KEYS = ("{m}", "{m}:due", "{m}:log")
SLOT = slot_of("m")
SCRIPT = """
redis.call('SET', KEYS[1], ARGV[2])
redis.call('SPUBLISH', ARGV[1], ARGV[2])
return 'applied'
"""
TRYAGAIN = "-TRYAGAIN Multiple keys request during rehashing of slot"


class Stage:
    """A slot with three keys at its source, two callers, and subscribers who speak RESP3."""

    def __init__(self, servers: Any) -> None:
        self.servers = servers
        self._clients: list[Client] = []

    async def begin(self) -> Move:
        """Have the slot on no way yet."""
        await self.servers.heal()
        self.move = move = await self.servers.move(SLOT, pause_at=0)
        self.source, self.target = await self.client(self.move.source), await self.client(self.move.target)
        for key in KEYS:
            assert await self.source.ask("SET", key, "0") == b"OK"
        assert isinstance(move, Move)
        return move

    async def client(self, node: Any) -> Client:
        """Return a new connection."""
        client = await connected(node.endpoint())
        self._clients.append(client)
        return client

    async def subscriber(self, node: Any, *, guest: bool = False, channel: str = CHANNEL) -> Client:
        """Return a new subscriber, by way of ASKING where it is a guest."""
        client = await self.client(node)
        await client.ask("HELLO", 3)
        if guest:
            assert await client.ask("ASKING") == b"OK"
        client.tell("SSUBSCRIBE", channel)
        assert await client.hear() == [[b"ssubscribe", channel.encode(), 1]]
        return client

    async def call(self, client: Client, word: str, *, guest: bool = False) -> Any:
        """Call a script that writes a key, and sends a message."""
        if guest:
            await client.ask("ASKING")
        return await client.ask("EVAL", SCRIPT, 3, *KEYS, CHANNEL, word)

    def moved(self, to: Any) -> str:
        """Return the answer of a server that knows the slot elsewhere."""
        return f"-MOVED {SLOT} 127.0.0.1:{to.port}"

    def ask(self, to: Any) -> str:
        """Return the answer of a server that has given the key away."""
        return f"-ASK {SLOT} 127.0.0.1:{to.port}"

    async def learns(self, client: Client, owner: Any) -> None:
        """Wait until a server has heard by the bus who owns the slot."""

        async def known() -> bool:
            return bool(await client.ask("GET", KEYS[0]) == self.moved(owner))

        await eventually(known, "the source has heard of it")

    async def end(self) -> None:
        """Close what is open."""
        for client in self._clients:
            await client.close()
        await self.servers.end()


def staged(test: Callable[[Stage, Move], Awaitable[None]]) -> Callable[[Any], Coroutine[Any, Any, None]]:
    """Run a test with the stage of a cluster, and close its connections whatever becomes of it."""

    async def run(servers: Any) -> None:
        stage = Stage(servers)
        try:
            await test(stage, await stage.begin())
        finally:
            await stage.end()

    run.__doc__ = test.__doc__
    return run


def message(word: str) -> list[bytes]:
    """Return what a subscriber hears."""
    return [b"smessage", CHANNEL.encode(), word.encode()]


PUSHED = [b"sunsubscribe", CHANNEL.encode(), 0]


@staged
async def test_a_slot_moves(stage: Stage, move: Move) -> None:
    """At each step: what a call is answered at both ends, and what a subscriber at each end hears."""
    at_source, at_target = stage.source, stage.target
    ear = await stage.subscriber(move.source)
    to_target, to_source = stage.ask(move.target), stage.moved(move.source)

    assert await stage.call(at_source, "1") == b"applied"
    assert await stage.call(at_target, "-") == to_source
    await move.to(Step.MIGRATING)
    assert await stage.call(at_source, "2") == b"applied"
    assert await stage.call(at_target, "-", guest=True) == TRYAGAIN
    assert await stage.call(at_target, "-") == to_source
    assert await ear.hear(2) == [message("1"), message("2")]

    await move.to(Step.FIRST_KEY)
    assert await stage.call(at_source, "-") == TRYAGAIN
    assert await stage.call(at_target, "-", guest=True) == TRYAGAIN
    assert await at_source.ask("GET", KEYS[0]) == to_target
    assert await at_source.ask("GET", KEYS[1]) == b"0"
    guest = await stage.subscriber(move.target, guest=True)

    await move.to(Step.LAST_KEY)
    assert await stage.call(at_source, "-") == to_target
    assert await stage.call(at_target, "3", guest=True) == b"applied"
    assert await guest.hear() == [message("3")]
    # Whoever is subscribed at the source hears nothing of it, nor is told; and a new subscription is confirmed.
    late = await stage.subscriber(move.source)
    assert await at_source.ask("SPUBLISH", CHANNEL, "by hand") == 2
    assert await ear.hear() == [message("by hand")]
    assert await late.hear() == [message("by hand")]
    assert await at_target.ask("SPUBLISH", CHANNEL, "-") == to_source

    await move.to(Step.NODE_AT_TARGET)
    await stage.learns(at_source, move.target)
    assert [await ear.hear(), await late.hear()] == [[PUSHED], [PUSHED]]
    assert await stage.call(at_target, "4") == b"applied"
    # Valkey tells its guest, too, that the slot has gone, although it has come.
    assert await guest.hear() == [PUSHED if stage.servers.kind == "valkey" else message("4")]
    await move.finish()
    ear.tell("SSUBSCRIBE", CHANNEL)
    ear.tell("SUNSUBSCRIBE", CHANNEL)
    assert await ear.hear(2) == [stage.moved(move.target)] * 2


@staged
async def test_a_move_is_called_off(stage: Stage, move: Move) -> None:
    """The source serves again; who followed to the target stays subscribed there, hears nothing, and is not told."""
    await move.to(Step.LAST_KEY)
    ear, guest = await stage.subscriber(move.source), await stage.subscriber(move.target, guest=True)
    assert await stage.call(stage.target, "1", guest=True) == b"applied"
    assert await guest.hear() == [message("1")]
    await move.call_off()
    assert await stage.source.ask("GET", KEYS[0]) == b"1"
    assert await stage.call(stage.source, "2") == b"applied"
    assert await stage.call(stage.target, "-", guest=True) == stage.moved(move.source)
    assert await ear.hear() == [message("2")]
    assert await guest.ask("PING") == b"PONG"
    assert guest.heard == []


@staged
async def test_keys_that_are_missing(stage: Stage, move: Move) -> None:
    """A map that has no data, or lacks one key of its three, is not served at either end until the move is over."""
    await stage.source.ask("DEL", KEYS[1])
    await move.to(Step.MIGRATING)
    assert await stage.call(stage.source, "-") == TRYAGAIN
    assert await stage.call(stage.target, "-", guest=True) == TRYAGAIN
    await stage.source.ask("DEL", *KEYS[::2])
    assert await stage.call(stage.source, "-") == stage.ask(move.target)
    assert await stage.call(stage.target, "-", guest=True) == TRYAGAIN
    await stage.target.ask("ASKING")
    assert await stage.target.ask("GET", KEYS[0]) is None
    await move.finish()
    assert await stage.call(stage.target, "1") == b"applied"


@staged
async def test_asking_is_good_for_one_command(stage: Stage, move: Move) -> None:
    """Any command spends it, also one that needs none, and one that fails; a RESP2 subscriber may not even ask."""
    await move.to(Step.LAST_KEY)
    client, to_source = stage.target, stage.moved(move.source)
    for between in (("PING",), ("EVALSHA", "0" * 40, 0), ("GET", KEYS[1])):
        await client.ask("ASKING")
        await client.ask(*between)
        assert await client.ask("GET", KEYS[0]) == to_source
    await client.ask("ASKING")
    await client.ask("ASKING")
    assert await client.ask("GET", KEYS[0]) == b"0"
    # A script's own commands are under the ASKING of the script.
    await client.ask("ASKING")
    assert await client.ask("EVAL", "return redis.call('GET', KEYS[1])", 1, KEYS[0]) == b"0"
    older = await stage.client(move.target)
    await older.ask("ASKING")
    older.tell("SSUBSCRIBE", CHANNEL)
    assert await older.hear() == [[b"ssubscribe", CHANNEL.encode(), 1]]
    assert str(await older.ask("ASKING")).startswith("-ERR Can't execute 'asking'")
    assert await older.ask("PING") == [b"pong", b""]


@staged
async def test_slots_that_do_not_go_together(stage: Stage, move: Move) -> None:
    """One command is of one slot; a script may send to its own slot only; and there is one database."""
    client = stage.source
    crossed = "-CROSSSLOT Keys in request don't hash to the same slot"
    client.tell("SSUBSCRIBE", CHANNEL, "coord:0:{other}:k")
    assert await client.hear() == [crossed]
    assert await client.ask("EVAL", SCRIPT, 2, "{m}", "{other}", CHANNEL, "-") == crossed
    answers = {name: await client.ask("GET", name) for name in map("{{{}}}".format, "abcdefgh")}
    other = next(name for name, answer in answers.items() if str(answer).startswith("-MOVED"))
    refused = await client.ask("EVAL", SCRIPT, 1, KEYS[0], other, "-")
    assert "ttempted to access a non local key in a cluster node" in refused
    assert str(await client.ask("EVALSHA", "0" * 40, 1, other)).startswith("-MOVED")
    assert str(await client.ask("EVALSHA", "0" * 40, 1, KEYS[0])).startswith("-NOSCRIPT")
    assert str(await client.ask("SELECT", 1)).startswith("-ERR")
    assert await client.ask("SELECT", 0) == b"OK"
    assert b"cluster_enabled:1" in await client.ask("INFO", "cluster")


@staged
async def test_who_has_which_slot(stage: Stage, move: Move) -> None:
    """CLUSTER SLOTS tells, and tells it of a slot that has moved as soon as the server knows itself."""

    async def owner(client: Client) -> str:
        ranges = await client.ask("CLUSTER", "SLOTS")
        assert sum(last - first + 1 for first, last, *_ in ranges) == 16384
        (found,) = [each for each in ranges if each[0] <= SLOT <= each[1]]
        host, port, name, *_ = found[2]
        assert host == b"127.0.0.1"
        return f"{name.decode()} {port}"

    def own(node: Any) -> str:
        return f"{node.id} {node.port}"

    assert {await owner(stage.source), await owner(stage.target)} == {own(move.source)}
    await move.to(Step.LAST_KEY)
    assert {await owner(stage.source), await owner(stage.target)} == {own(move.source)}
    await move.finish()
    assert {await owner(stage.source), await owner(stage.target)} == {own(move.target)}


@staged
async def test_a_failover(stage: Stage, move: Move) -> None:
    """The demoted one tells its subscribers, confirms new ones, passes on what the bus brings, and has no data."""
    replica = await stage.servers.replica_of(move.source)
    ear, early = await stage.subscriber(move.source), await stage.subscriber(replica)
    assert await stage.call(stage.source, "1") == b"applied"
    assert [await ear.hear(), await early.hear()] == [[message("1")], [message("1")]]
    at_replica = await stage.client(replica)
    assert await at_replica.ask("GET", KEYS[0]) == stage.moved(move.source)
    await stage.servers.failover(move.source)
    assert await ear.hear() == [PUSHED]
    assert await stage.source.ask("GET", KEYS[0]) == stage.moved(replica)
    assert await at_replica.ask("GET", KEYS[0]) == b"1"
    late = await stage.subscriber(move.source)
    assert await stage.call(at_replica, "2") == b"applied"
    assert await early.hear() == [PUSHED if stage.servers.kind == "valkey" else message("2")]

    async def heard() -> bool:
        await stage.call(at_replica, "2")
        return message("2") in late.heard

    await eventually(heard, "the bus brings a message")
