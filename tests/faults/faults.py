"""The faults, as verbs on a stage. Each lasts until it was noticed, or for a while; the round mends it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from coord.core.names import node_channel
from faults.nodes import NodeProcess
from faults.stage import HEARTBEAT, Stage
from support.waiting import eventually

__all__ = ["CLOCK_FAULTS", "FAULTS", "LASTING", "NETWORK_FAULTS", "QUICK"]

Fault = Callable[[Stage], Awaitable[None]]


# The server's process.


async def server_killed(stage: Stage) -> None:
    """It is killed, and comes back with its data."""
    await stage.server.kill()
    await stage.noticed()
    await stage.a_while()
    await stage.server.start()


async def server_ended(stage: Stage) -> None:
    """It ends in order, and is back at once."""
    await stage.server.stop()
    await stage.server.start()


async def server_stopped(stage: Stage) -> None:
    """It hangs until every node has noticed."""
    await stage.server.hang()
    await stage.noticed()
    await stage.a_while()
    await stage.server.resume()


async def server_stuttering(stage: Stage) -> None:
    """It hangs for less than a heartbeat, a few times."""
    for _ in range(4):
        await stage.server.hang()
        await stage.a_while(0.05, HEARTBEAT * 0.9)
        await stage.server.resume()
        await stage.a_while(0.0, 0.1)


async def server_busy(stage: Stage) -> None:
    """It answers BUSY, for a script of somebody else's, until that is killed."""
    await stage.server.be_busy()
    await stage.a_while(0.1, 3 * HEARTBEAT)
    await stage.server.end_script()


async def server_paused(stage: Stage) -> None:
    """It takes commands and carries none out (CLIENT PAUSE)."""
    await stage.server.command("CLIENT", "PAUSE", int(HEARTBEAT * 3_000), stage.random.choice(("ALL", "WRITE")))


# Connections.


async def commands_killed(stage: Stage) -> None:
    """The command connections are closed, and again as soon as they are back."""
    await _killed(stage, "normal")


async def subscribers_killed(stage: Stage) -> None:
    """The subscribers are closed, and again."""
    await _killed(stage, "pubsub")


async def connections_killed(stage: Stage) -> None:
    """All connections are closed, and again."""
    await _killed(stage, "normal", "pubsub")


async def _killed(stage: Stage, *types: str) -> None:
    for _ in range(stage.random.randrange(1, 6)):
        await stage.server.drop(*types)
        await stage.a_while(0.0, 0.2)


Meanwhile = Callable[[list[NodeProcess]], Awaitable[None]]


async def subscriber_overrun(stage: Stage, meanwhile: Meanwhile | None = None) -> None:
    """A node reads nothing until the server throws its subscriber out for that; the others have their time."""
    await stage.server.command("CONFIG", "SET", "client-output-buffer-limit", "pubsub 32kb 16kb 1")
    node = stage.random.choice(stage.nodes)
    connections = await _subscribers(stage, node)
    incarnation = (await node.wait_event("ready"))["incarnation"]
    channel = node_channel(0, incarnation)
    await node.stop()

    async def thrown_out() -> bool:
        # On the node's own channel, where it heeds nothing but its own words.
        await stage.server.commands(*[("PUBLISH", channel, b"x" * 100_000)] * 20)
        return not await _subscribers(stage, node) & connections

    await eventually(thrown_out, "the server throws the slow subscriber out", patience=20)
    others = [other for other in stage.nodes if other is not node]
    await (meanwhile(others) if meanwhile else stage.progress(10, *others))
    node.resume()


async def _subscribers(stage: Stage, node: NodeProcess) -> set[str]:
    clients: bytes = await stage.server.command("CLIENT", "LIST", "TYPE", "pubsub")
    fields = [dict(word.split("=", 1) for word in line.split()) for line in clients.decode().splitlines()]
    return {each["id"] for each in fields if each["name"] == f"coord:{node.name}"}


# The network.


async def network_silent(stage: Stage) -> None:
    """A node's host is cut off, and nobody is told."""
    node = stage.random.choice(stage.nodes)
    assert stage.network is not None
    stage.network.isolate(node.host)
    await stage.noticed(node)
    await stage.a_while()
    stage.network.heal()


async def network_silent_server(stage: Stage) -> None:
    """The server's host is cut off, and nobody is told."""
    assert stage.network is not None
    stage.network.isolate("server")
    await stage.noticed()
    await stage.a_while()
    stage.network.heal()


async def network_one_way_out(stage: Stage) -> None:
    """What a node sends is lost; it still hears."""
    node = stage.random.choice(stage.nodes)
    assert stage.network is not None
    stage.network.one_way(node.host, "server")
    await stage.noticed(node)
    await stage.a_while()
    stage.network.heal()


async def network_one_way_in(stage: Stage) -> None:
    """What the server sends to a node is lost; what the node sends is carried out."""
    node = stage.random.choice(stage.nodes)
    assert stage.network is not None
    stage.network.one_way("server", node.host)
    await stage.noticed(node)
    await stage.a_while()
    stage.network.heal()


# Nodes.


async def node_killed(stage: Stage) -> None:
    """A node is killed, and another comes in its place."""
    node = stage.random.choice(stage.nodes)
    await stage.bury(node)
    await stage.a_while()
    new = stage.start_node(node.host)
    await new.wait_event("link", state="connected")
    new.tell("load")


async def node_stopped(stage: Stage) -> None:
    """A node is stopped for more than two heartbeats, while the others go on."""
    node = stage.random.choice(stage.nodes)
    await node.stop()
    await stage.a_while(2 * HEARTBEAT, 4 * HEARTBEAT)
    await stage.progress(10, *(other for other in stage.nodes if other is not node))
    node.resume()


async def node_forked(stage: Stage) -> None:
    """A node forks, and the child uses and closes its copy."""
    node = stage.random.choice(stage.nodes)
    start = node.now
    node.tell("fork")
    await node.wait_event("forked", since=start)


async def clock_stepped(stage: Stage) -> None:
    """The wall clock of a node's host is set to another time, and stays there."""
    node = stage.random.choice(stage.nodes)
    stage.clocks[node.host].step(stage.random.choice((-86_400, -7_200, -10, 0, 10, 7_200)))
    await stage.progress(10, node)


# Data.


async def scripts_flushed(stage: Stage) -> None:
    """The server forgets the scripts, a few times."""
    for _ in range(8):
        await stage.server.command("SCRIPT", "FLUSH")
        await stage.a_while(0.0, 0.1)


async def data_flushed(stage: Stage) -> None:
    """The data is flushed under the nodes."""
    await stage.flush()
    await stage.a_while()


async def server_emptied(stage: Stage) -> None:
    """The server comes back without its data."""
    await stage.lose()
    await stage.a_while(0.0, 0.2)
    await stage.server.start("empty")


async def out_of_memory(stage: Stage) -> None:
    """The server has no memory left for a while."""
    await stage.server.command("CONFIG", "SET", "maxmemory", 1)
    await stage.progress(10)


async def answers_limited(stage: Stage) -> None:
    """The server hangs up on whom it owes more than a little, and all have to read everything again."""
    await stage.server.command("CONFIG", "SET", "client-output-buffer-limit", "normal 48kb 0 0")
    await stage.server.drop()
    await stage.progress(10)


# Access and role.


async def password_rotated(stage: Stage) -> None:
    """Another password is asked, and after a while the old one again."""
    await stage.server.set_password("second")
    await stage.noticed()
    await stage.a_while()


async def permission_withdrawn(stage: Stage) -> None:
    """A command, or all keys, may not be used for a while; by new connections, or by those that there are."""
    what = stage.random.choice((("-evalsha", "-eval"), ("-hmget",), ("-subscribe",), ("resetkeys",)))
    await stage.server.command("ACL", "SETUSER", "default", *what)
    if stage.random.random() < 0.5:
        await stage.server.drop()
        await stage.a_while()
    else:
        await stage.progress(10)
    await stage.server.command("ACL", "SETUSER", "default", "+@all", "allkeys")


async def channels_withdrawn(stage: Stage) -> None:
    """Nothing may be published or subscribed to for a while; Redis also throws out who is subscribed."""
    await stage.server.command("ACL", "SETUSER", "default", "resetchannels")
    await stage.a_while()
    await stage.server.command("ACL", "SETUSER", "default", "allchannels")


async def read_only(stage: Stage) -> None:
    """The server is made a replica, and a primary again."""
    await stage.server.command("REPLICAOF", "127.0.0.1", 1)
    await stage.noticed()
    await stage.a_while()


async def demoted_in_silence(stage: Stage) -> None:
    """The server is made a replica in place, while nobody calls who would be refused."""
    await stage.hold()
    await stage.server.command("REPLICAOF", "127.0.0.1", 1)
    await stage.noticed()
    await stage.a_while()
    await _go_on(stage)


async def there_and_back(stage: Stage) -> None:
    """A replica that lags is promoted; nobody calls there, and the server takes over its data and leads again."""
    other = await stage.spare()
    await other.command(*other.following(stage.server))
    await other.in_step(stage.server)
    await other.command("REPLICAOF", "NO", "ONE")
    await stage.progress(10)
    if stage.random.random() < 0.5:
        await stage.hold()
    # Some know G.100, and come back when it is G.50 again; some never leave.
    dropped = stage.random.choice(((), ("normal",), ("pubsub",), ("normal", "pubsub")))
    if dropped:
        await stage.server.drop(*dropped)
    await stage.set_back(other)
    await other.kill()
    if dropped and stage.random.random() < 0.5:
        await stage.server.drop(*dropped)
    await _go_on(stage)


async def replica_comes_and_goes(stage: Stage) -> None:
    """The first replica comes, and after the last one the backlog is freed: each gives the data another id."""
    server = stage.server
    await server.command("CONFIG", "SET", "repl-backlog-ttl", 1)
    other = await stage.spare()
    await other.command(*other.following(server))
    await other.in_step(server)
    second = await server.replication_id()
    await stage.progress(5)
    await other.kill()

    async def freed() -> bool:
        return await server.replication_id() != second

    await eventually(freed, "the backlog is freed")
    await stage.progress(5)


async def _go_on(stage: Stage) -> None:
    for node in stage.nodes:
        node.tell("load")


FAULTS: Final[dict[str, Fault]] = {
    fault.__name__: fault
    for fault in (
        server_killed,
        server_ended,
        server_stopped,
        server_stuttering,
        server_busy,
        server_paused,
        commands_killed,
        subscribers_killed,
        connections_killed,
        subscriber_overrun,
        node_killed,
        node_stopped,
        node_forked,
        scripts_flushed,
        data_flushed,
        server_emptied,
        out_of_memory,
        answers_limited,
        password_rotated,
        permission_withdrawn,
        channels_withdrawn,
        read_only,
        demoted_in_silence,
        there_and_back,
        replica_comes_and_goes,
    )
}

NETWORK_FAULTS: Final[dict[str, Fault]] = {
    fault.__name__: fault for fault in (network_silent, network_silent_server, network_one_way_out, network_one_way_in)
}

CLOCK_FAULTS: Final[dict[str, Fault]] = {fault.__name__: fault for fault in (clock_stepped,)}

LASTING: Final = frozenset(
    {
        "server_stopped",
        "server_stuttering",
        "server_paused",
        "subscriber_overrun",
        "permission_withdrawn",
        *NETWORK_FAULTS,
        *CLOCK_FAULTS,
    }
)
"""The server goes on or comes back by itself, so that something else can happen to it at the same time."""

QUICK: Final = (
    "commands_killed",
    "subscribers_killed",
    "connections_killed",
    "scripts_flushed",
    "node_killed",
    "node_stopped",
    "data_flushed",
)
"""What can happen meanwhile."""
