"""The scenes of ``coord demo``. Every line is printed after its check."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred

from coord.cli.demo.cast import DemoFailed, Node, Wait
from coord.cli.demo.stage import Stage
from coord.embedded import EmbeddedServer

__all__ = ["Story"]

_DATABASE = {"host": "db1", "port": 5432}


class Story:
    """Three nodes, a server, and what happens to them."""

    def __init__(self, stage: Stage, server: EmbeddedServer, nodes: Sequence[Node]) -> None:
        self._stage = stage
        self._server = server
        self._nodes = {node.name: node for node in nodes}
        self._waits: list[Wait] = []

    async def run(self) -> int:
        """Play all scenes; return the number of waits. Raises `DemoFailed`."""
        for scene in (
            self._begin,
            self._wait_and_fire,
            self._come_late,
            self._fail,
            self._pulse,
            self._crash,
            self._die,
        ):
            await scene()
        await self._check_once()
        return len(self._waits)

    async def stay(self) -> None:
        """Wait for a fire from the page; then stay until the demo is ended."""
        await self._stage.scene('Now you. node1 waits for "approval": on the page, allow changes, and fire it.')
        wait = await self._wait("node1", "approval")
        await wait.answered
        await self._tell("node1", f"is called with {json.dumps(wait.answers[0].get('called'))}: that was you")
        await self._tell("page", "is there until you press Ctrl-C")
        await Deferred()

    async def _begin(self) -> None:
        await self._tell("server", f"a real one, process {self._server.pid}, with its data in a file")
        for node in self._nodes.values():
            await node.until_link("connected")
            await self._tell(node.name, f"process {node.pid}, connected to the server")

    async def _wait_and_fire(self) -> None:
        await self._stage.scene('1. Two nodes wait for "database", which has not happened yet. Then it does.')
        waits = [await self._wait("node2", "database"), await self._wait("node3", "database")]
        await self._call("node1", "fire", "database", _DATABASE, first=True)
        for wait in waits:
            await self._called(wait, _DATABASE)

    async def _come_late(self) -> None:
        await self._stage.scene("2. Who comes late is called at once.")
        late = self._ask("node1", "database")
        await self._tell("node1", 'asks for "database" only now')
        await self._called(late, _DATABASE)
        again = self._ask("node2", "database")
        await self._tell("node2", "asks a second time")
        await self._called(again, _DATABASE, more=", before the next line of its program ran: it knew")
        self._check(again.answers[0]["at_once"] is True, "node2 was not called at once")
        await self._call("node3", "fire", "database", "another", first=False)

    async def _fail(self) -> None:
        await self._stage.scene('3. "backup" fails: who waits for it gets the error.')
        waits = [await self._wait("node1", "backup"), await self._wait("node2", "backup")]
        await self._call("node3", "fail", "backup", "disk full", first=True)
        for wait in waits:
            answer = await self._answer(wait)
            self._check(answer.get("failed") == "disk full", f"{wait.node}'s wait for backup did not fail")
            await self._tell(wait.node, 'gets the error "disk full"')

    async def _pulse(self) -> None:
        await self._stage.scene("4. A pulse wakes who waits now; who asks after it waits for the next one.")
        waits = [await self._wait("node1", "config"), await self._wait("node2", "config")]
        await self._call("node3", "pulse", "config", 1, first=True)
        for wait in waits:
            await self._called(wait, 1)
        next_one = await self._wait("node1", "config", again=True)
        self._check(not next_one.answers, "node1's second wait got the first pulse")
        await self._call("node3", "pulse", "config", 2, first=True)
        await self._called(next_one, 2)

    async def _crash(self) -> None:
        await self._stage.scene("5. The server is killed while nodes wait, and started again.")
        waits = [await self._wait("node1", "disk"), await self._wait("node2", "disk")]
        network = await self._wait("node3", "network")
        await self._server.kill()
        await self._tell("server", "killed (kill -9)")
        for node in self._nodes.values():
            await node.until_link("suspended")
            await self._tell(node.name, "has lost the server, and goes on waiting")
        held = self._nodes["node3"].call("fire", "disk", "/mnt/abc")
        await self._tell("node3", 'fires "disk" all the same: the call is kept until there is a server')
        self._check(not held.called, "a call was answered with no server there")
        await self._server.start()
        await self._tell("server", f"started again, process {self._server.pid}, from its file")
        for node in self._nodes.values():
            await node.until_link("connected")
            await self._tell(node.name, "is connected again")
        report = await self._nodes["node3"].expect(held, "the answer to its call")
        self._check(report.get("first") is True, f"node3's kept call: {report}")
        await self._tell("node3", 'its "disk" was acknowledged')
        for wait in waits:
            await self._called(wait, "/mnt/abc")
        await self._call("node1", "fire", "network", "up", first=True)
        await self._called(network, "up")
        late = self._ask("node3", "database")
        await self._tell("node3", 'asks for "database", fired before the crash')
        await self._called(late, _DATABASE)

    async def _die(self) -> None:
        await self._stage.scene(
            "6. A node that leads is killed: what it holds ends by itself, and another node takes the lead."
        )
        await self._call("node2", "hold", "node2 is up", True, first=True)
        first = await self._granted("node2", self._nodes["node2"].call("elect", "leader", "node2"))
        elected = self._nodes["node3"].call("elect", "leader", "node3")
        await self._tell("node3", 'stands for "leader", too')
        gone = self._nodes["node1"].call("gone", "node2 is up", None)
        await self._tell("node1", 'waits for the end of "node2 is up"')
        dead = self._nodes.pop("node2")
        dead.kill()
        await dead.gone()
        await self._tell("node2", "killed (kill -9)")
        report = await self._nodes["node1"].expect(gone, "the end of what node2 held")
        self._check(report.get("kind") == "expired", f"node1 was told of another end: {report}")
        await self._tell("node1", 'is told that "node2 is up" has expired: its lease was over')
        second = await self._granted("node3", elected)
        self._check(second > first, f"the token of node3, {second}, is not higher than node2's, {first}")
        asked = self._nodes["node1"].call("record", "leader", None)
        leader = await self._nodes["node1"].expect(asked, "who leads now")
        self._check((leader.get("kind"), leader.get("value")) == ("fired", "node3"), f"the leader is {leader}")
        await self._tell("node1", "sees that node3 leads, with a higher token")

    async def _granted(self, name: str, asked: Deferred[dict[str, Any]]) -> str:
        report = await self._nodes[name].expect(asked, f"{name} to lead")
        await self._tell(name, 'leads: it owns "leader"')
        return str(report.get("token", ""))

    # The verbs of the scenes.

    async def _wait(self, name: str, key: str, *, again: bool = False) -> Wait:
        """Make a node wait for an event, and return once the wait is armed."""
        wait = self._ask(name, key)
        await self._nodes[name].expect(wait.armed, f"its wait for {key} to be armed")
        await self._tell(name, f'waits for "{key}"{" again" if again else ""}')
        return wait

    def _ask(self, name: str, key: str) -> Wait:
        wait = self._nodes[name].wait(key)
        self._waits.append(wait)
        return wait

    async def _call(self, name: str, operation: str, key: str, value: Any, *, first: bool) -> None:
        node = self._nodes[name]
        report = await node.expect(node.call(operation, key, value), f"the answer to its {operation}")
        self._check(report.get("first") is first, f"{name}'s {operation} of {key}: {report}")
        done = {"fire": "fires", "fail": "fails", "pulse": "pulses", "hold": "holds"}[operation]
        late = ", behind the first holder" if operation == "hold" else ": too late, the first one stands"
        refused = "" if first else late
        await self._tell(name, f'{done} "{key}" with {json.dumps(value)}{refused}')

    async def _called(self, wait: Wait, value: Any, *, more: str = "") -> None:
        answer = await self._answer(wait)
        self._check(answer.get("called") == value, f"{wait.node}'s wait for {wait.key}: {answer}, not {value!r}")
        await self._tell(wait.node, f"is called with {json.dumps(value)}{more}")

    async def _answer(self, wait: Wait) -> dict[str, Any]:
        await self._nodes[wait.node].expect(wait.answered, f"{wait.key} to call it")
        return wait.answers[0]

    async def _tell(self, who: str, what: str) -> None:
        await self._stage.tell(who, what)

    async def _check_once(self) -> None:
        for node in self._nodes.values():
            # Its answer arrives after all earlier reports.
            await node.expect(node.call("fire", f"goodbye {node.name}", True), "its last call")
        for wait in self._waits:
            self._check(len(wait.answers) == 1, f"{wait.node}'s wait for {wait.key} was answered {wait.answers}")

    @staticmethod
    def _check(holds: bool, otherwise: str) -> None:
        if not holds:
            raise DemoFailed(otherwise)
