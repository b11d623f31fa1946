"""The stage: a server, nodes under load, and the conductor's part - faults, checkpoints, and what is read at each."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from random import Random
from time import monotonic
from typing import Any, Final

from twisted.internet.defer import ensureDeferred, gatherResults

from coord import Revision
from coord.core.history import parse_entry
from coord.core.names import MapNames
from faults.history import NEVER, Checkpoint, History, Line, Loss, read
from faults.network import Network
from faults.nodes import PATIENCE, NodeProcess
from faults.server import FaultyServer, binary_of
from faults.worker import MAPS
from support.waiting import turn, until
from support.wall_clock import WallClock

__all__ = ["HEARTBEAT", "Stage"]

HEARTBEAT: Final = 0.5
"""Seconds between the nodes' beats: a server that hangs is noticed within two."""

NODES: Final = 4


class Stage:
    """A cluster of processes; ``network`` is there where this machine can have one.

    :param clocks: give each host a wall clock of its own in ``clocks``, where this machine can.
    """

    def __init__(
        self,
        kind: str,
        seed: int,
        *,
        nodes: int = NODES,
        clocks: bool = False,
        **options: Any,
    ) -> None:
        self.random = Random(seed)
        self.faults: Counter[str] = Counter()
        self.no_network = Network.missing()
        self.no_clocks = WallClock.missing()
        hosts = [f"host{number}" for number in range(nodes)]
        self._folder = Path(tempfile.mkdtemp(prefix="coord-faults-clocks-"))
        stepped = hosts if clocks and self.no_clocks is None else []
        self.clocks = {host: WallClock(self._folder / host) for host in stepped}
        self.network = None if self.no_network else Network(["server", *hosts])
        self.nodes: list[NodeProcess] = []
        self.all_nodes: list[NodeProcess] = []
        self._options = {"heartbeat": HEARTBEAT, "timeout": 20.0, "cache_size": 60, **options}
        self._hosts = hosts
        self._names = {name: MapNames("default", name, 0) for name in MAPS}
        self._lines: list[Line] = []
        self._losses: list[Loss] = []
        self._checkpoints: list[Checkpoint] = []
        self._lives: Counter[str] = Counter()
        binary = binary_of(kind)
        assert binary is not None
        if self.network is not None:
            self.network.up()
            place = (self.network.address("server"), self.network.on("server"))
        else:
            place = ("127.0.0.1", [])
        self._spare: FaultyServer | None = None
        self._make_server = partial(FaultyServer, kind, binary, host=place)
        self.server = self._make_server(_folder())

    # Beginning and end.

    async def open(self, *, watch: bool = True) -> None:
        """Start the server and the nodes."""
        await self.server.start()
        for host in self._hosts:
            self.start_node(host, watch=watch)
        for node in self.nodes:
            await node.wait_event("link", state="connected")

    def start_node(self, host: str, *, watch: bool = True) -> NodeProcess:
        """Start a node on a host; its name tells which life it is."""
        self._lives[host] += 1
        name = f"{host}.{self._lives[host]}"
        there = self.network.on(host) if self.network else []
        environment = self.clocks[host].environment if host in self.clocks else None
        seed = self.random.getrandbits(32)
        node = NodeProcess.run(name, host, there, self.server.url, seed, self._options, environment)
        self.nodes.append(node)
        self.all_nodes.append(node)
        if watch:
            node.tell("watch", since="start")
        return node

    async def bury(self, node: NodeProcess) -> None:
        """Kill a node."""
        self.nodes.remove(node)
        await node.kill()

    async def finish(self) -> History:
        """Close every node, and return all that happened."""
        for node in self.nodes:
            node.tell("close")
        for node in self.nodes:
            await node.wait_event("closed")
            await node.ended()
        return self.history()

    def history(self) -> History:
        """Return all that happened so far."""
        history = read({node.name: node.events for node in self.all_nodes})
        history.lines, history.losses, history.checkpoints = self._lines, self._losses, self._checkpoints
        return history

    def dump(self) -> Path:
        """Keep what each node told, for whoever looks for the reason of a failure; return the folder."""
        folder = Path(tempfile.mkdtemp(prefix="coord-faults-told-"))
        for node in self.all_nodes:
            told = "".join(json.dumps(event) + "\n" for event in node.events)
            (folder / f"{node.name}.jsonl").write_text(told + node.said.decode(errors="replace"))
        return folder

    async def close(self) -> None:
        """Leave nothing behind, whatever happened."""
        for node in self.all_nodes:
            if node.alive:
                await node.kill()
        self.server.close()
        if self._spare is not None:
            self._spare.close()
        if self.network is not None:
            self.network.down()
        shutil.rmtree(self._folder)

    # One round.

    async def load(self) -> None:
        """Have all nodes work, and return when each has done something."""
        for node in self.nodes:
            node.tell("load")
        await self.progress(10)

    async def progress(self, answers: int, *others: NodeProcess) -> None:
        """Return when each node (or each of those given) was answered that many more calls; a stopped one is not."""
        goals = [(node, node.answers + answers) for node in others or self.nodes]
        await until(
            lambda: all(node.answers >= goal or node.paused or not node.alive for node, goal in goals),
            "the nodes make progress",
            patience=PATIENCE,
        )

    async def noticed(self, *nodes: NodeProcess) -> None:
        """Return when these nodes (by default all) have lost their link; one that we stopped notices nothing."""
        await until(
            lambda: all(node.link != "connected" or node.paused or not node.alive for node in nodes or self.nodes),
            "they notice",
            patience=PATIENCE,
        )

    async def linked(self) -> None:
        """Return when all nodes have a link."""
        await until(lambda: all(node.link == "connected" for node in self.nodes), "they are linked", patience=PATIENCE)

    async def a_while(self, least: float = 0.1, most: float = 0.6) -> None:
        """Let a fault last for some time: that is what it is made of."""
        await turn(self.random.uniform(least, most))

    async def hold(self) -> None:
        """Have nobody call, until `load`: all only wait and watch."""
        await self._all("hold", "held")

    async def spare(self) -> FaultyServer:
        """Return another server, empty, on the server's host."""
        if self._spare is None:
            self._spare = self._make_server(_folder())
        await self._spare.start("empty")
        return self._spare

    async def heal(self) -> None:
        """Undo every fault."""
        if self.network is not None:
            self.network.heal()
        for node in self.nodes:
            node.resume()
        await self.server.heal()

    async def checkpoint(self) -> None:
        """Hold the load, wait until everybody has seen everything, and read the history."""
        number = len(self._checkpoints) + 1
        await self.hold()
        begun = monotonic()
        await self._all("barrier", "at-barrier", number=number)
        starts = [(node, node.now) for node in self.nodes]
        self.random.choice(self.nodes).tell("pulse_barrier")
        quiet = {}
        for node, start in starts:
            await node.wait_event("quiet", 2, start, number=number)
            quiet[node.name] = max(
                event["t"] for event in node.events[start:] if event["e"] == "quiet" and event["number"] == number
            )
        self._checkpoints.append(Checkpoint(number, begun, monotonic(), quiet))
        for name in MAPS:
            self._take(name, await self.server.command(*self._reading(name)), number)

    async def _all(self, verb: str, answer: str, **arguments: Any) -> None:
        starts = [(node, node.now) for node in self.nodes]
        for node in self.nodes:
            node.tell(verb, **arguments)
        for node, start in starts:
            await node.wait_event(answer, 1, start, **arguments)

    # The servers' history.

    def _reading(self, name: str) -> tuple[bytes | str, ...]:
        last = next((line for line in reversed(self._lines) if line.map == name and self._present(line)), None)
        after = f"({last.revision.generation}-{last.revision.number}" if last else "-"
        return ("XRANGE", self._names[name].log, after, "+")

    def _present(self, line: Line) -> bool:
        return History(losses=self._losses).last_era(line) == len(self._losses)

    def _take(self, name: str, reply: list[Any], number: int | None) -> None:
        for identifier, fields in reply:
            self._lines += _lines(name, len(self._losses), number, identifier, fields)

    async def flush(self) -> None:
        """Lose all data under the nodes, having read it in the same step."""
        begun = monotonic()
        replies = await self.server.commands(
            ("MULTI",), *(self._reading(name) for name in MAPS), ("FLUSHALL",), ("EXEC",)
        )
        for name, reply in zip(MAPS, replies[-1], strict=False):
            self._take(name, reply, None)
        self._losses.append(Loss(begun, monotonic()))

    async def lose(self) -> None:
        """Lose all data with the server's process; what it had is read where no node can reach it."""
        begun = monotonic()
        await self.server.kill()
        await self.server.start(reachable=False)
        for name in MAPS:
            self._take(name, await self.server.command(*self._reading(name)), None)
        await self.server.kill()
        self._losses.append(Loss(begun, monotonic()))

    async def set_back(self, other: FaultyServer) -> None:
        """Have the server take over the data of another one, which has led since it had a part of this one's."""
        kept = {}
        for name in MAPS:
            last = await other.command("XREVRANGE", self._names[name].log, "+", "-", "COUNT", 1)
            kept[name] = Revision.parse(last[0][0].decode().replace("-", ".")) if last else NEVER
        begun = monotonic()
        replies = await self.server.commands(
            ("MULTI",), *(self._reading(name) for name in MAPS), self.server.following(other), ("EXEC",)
        )
        for name, reply in zip(MAPS, replies[-1], strict=False):
            self._take(name, reply, None)
        await self.server.in_step(other)
        await self.server.command("REPLICAOF", "NO", "ONE")
        self._losses.append(Loss(begun, monotonic(), kept))

    # All of it.

    async def round(self, *faults: list[tuple[str, Callable[[Stage], Awaitable[None]]]]) -> None:
        """Break things under load, mend them, and see that everybody comes to rest; a list breaks at the same time."""
        await self.load()
        for together in faults:
            self.faults.update(name for name, _ in together)
            await gatherResults([ensureDeferred(_steps(fault, self)) for _, fault in together], consumeErrors=True)
            await self.heal()
            await self.linked()
        await self.progress(10)
        await self.checkpoint()


def _folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="coord-faults-"))


async def _steps(fault: Callable[[Stage], Awaitable[None]], stage: Stage) -> None:
    await fault(stage)


def _lines(name: str, era: int, number: int | None, identifier: bytes, fields: list[bytes]) -> list[Line]:
    lines = []
    for line in parse_entry(name, identifier, fields, {}):
        record = line.record
        assert record is not None, "a change that no node of coord's makes"
        value = record.value
        named = str(value["id"]) if isinstance(value, dict) else None
        kind = str(record.kind)
        lines.append(Line(name, era, line.revision, line.after, kind, record.key, record.node, named, number))
    return lines
