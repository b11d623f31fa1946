"""Who is a member, who acknowledges changes, and who waits for that: the users' verbs."""

from __future__ import annotations

from typing import Any

from twisted.python.failure import Failure

from coord import MEMBERS
from coord.core.acks import Acks as Told
from coord.core.records import Kind, Revision
from coord.errors import Unacknowledged
from simulation.history import Ack, AckWait, Change, Hold
from simulation.node import SimNode
from simulation.users import Users
from simulation.world import World

__all__ = ["Acks"]

_TOLD = (Kind.FIRED, Kind.FAILED, Kind.PULSED)
"""What handlers are told of."""

_STRANGER = "x"
"""A name that no node has."""

_TIMEOUTS = (30.0, 30.0, 30.0, 30.0, 5.0, 0.3)
_PATIENCE = (None, None, None, None, 20.0, 3.0)


class Acks:
    """The users' verbs about acknowledgements. Numbers stand for what there is: they are reduced to it."""

    def __init__(self, world: World, users: Users) -> None:
        self.world = world
        self.history = world.history
        self.users = users

    # Members.

    def join(self, a: int) -> None:
        """Have a node be a member, if it is none."""
        node = self.world.node(a)
        if node is None or node.life.over or node.holding:
            return
        history = self.history
        hold = Hold(history.serial(), node.life, (MEMBERS, node.life.node), history.now(), 1, 30.0)
        history.joins[hold.serial] = hold
        node.holding.append(hold)
        hold.deferred = node.coordinator.join({"n": hold.serial})
        hold.deferred.addCallbacks(self._joined, self._not_joined, callbackArgs=(node, hold), errbackArgs=(node, hold))

    def _joined(self, held: Any, node: SimNode, hold: Hold) -> None:
        if node.life.crashed is None:
            hold.answered, hold.held = self.history.now(), held

    def _not_joined(self, failure: Failure, node: SimNode, hold: Hold) -> None:
        hold.answered, hold.error = self.history.now(), type(failure.value).__name__
        if hold in node.holding:
            node.holding.remove(hold)

    def leave(self, a: int) -> None:
        """Have a node be a member no more."""
        node = self.world.node(a)
        if node is None:
            return
        for hold in [hold for hold in node.holding if hold.held is not None]:
            self.users.free(node, hold)

    # Acknowledgements.

    def ack(self, a: int, b: int, c: int) -> None:
        """Acknowledge a change of a key, mostly the latest that handlers were told of."""
        node, change = self.world.node(a), self._change(b, (0, 0, 0, 0, 1, 2)[c % 6])
        if node is None or change is None:
            return
        history, (name, _) = self.history, change.where
        timeout = _TIMEOUTS[c // 6 % len(_TIMEOUTS)]
        ack = Ack(history.serial(), node.life, name, change.revision, history.now(), timeout)
        history.acks.append(ack)
        node.calling.append(ack)
        ack.deferred = node.maps[name].ack(change.revision, timeout=timeout)
        ack.deferred.addBoth(self._acknowledged, node, ack)

    def _acknowledged(self, result: object, node: SimNode, ack: Ack) -> None:
        if node.life.crashed is None:
            node.calling.remove(ack)
            ack.answered = self.history.now()
            ack.error = type(result.value).__name__ if isinstance(result, Failure) else ""

    def _change(self, number: int, back: int) -> Change | None:
        where = self.world.where(number)
        told = [change for change in self.history.changes if change.where == where and change.kind in _TOLD]
        return told[-1 - min(back, len(told) - 1)] if told else None

    # Waits.

    def announce(self, a: int, b: int, c: int) -> None:
        """Fire or pulse a key, and wait until that is acknowledged."""
        node, where = self.world.node(a), self.world.where(b)
        if node is None:
            return
        call = self.users.make_call(node, where, Kind.FIRED if c % 3 else Kind.PULSED)

        def applied(_: object) -> None:
            if call.record is not None and call.record.kind in _TOLD and node.awake:
                self._wait(node, where[0], call.record.revision, c // 3)

        call.deferred.addCallback(applied)

    def acked(self, a: int, b: int, c: int) -> None:
        """Wait until a change of a key is acknowledged."""
        node, change = self.world.node(a), self._change(b, (0, 0, 0, 1)[c % 4])
        if node is not None and change is not None:
            self._wait(node, change.where[0], change.revision, c // 4 + c)

    def _wait(self, node: SimNode, name: str, revision: Revision, c: int) -> None:
        if self.users.resting:
            return
        history, names = self.history, [f"n{number}" for number in range(self.world.setup.acks)]
        by: Any = (None, None, 1, 2, tuple(names), tuple(names[-1:]), (names[0], _STRANGER))[c % 7]
        timeout = _PATIENCE[c % len(_PATIENCE)]
        wait = AckWait(len(history.ack_waits), node.life, name, revision, by, history.now(), timeout)
        history.ack_waits.append(wait)
        node.acking.append(wait)
        wait.deferred = node.maps[name].acked(revision, MEMBERS if by is None else by, timeout)
        wait.deferred.addBoth(self._resolved, node, wait)

    def _resolved(self, result: Any, node: SimNode, wait: AckWait) -> None:
        if node.life.crashed is not None:
            return
        wait.times += 1
        wait.resolved = self.history.now()
        node.acking.remove(wait)
        if isinstance(result, Failure):
            error = result.value
            wait.error = type(error).__name__
            if isinstance(error, Unacknowledged):
                wait.told = Told(error.names, error.missing, error.left)
        else:
            wait.told = result

    def unack(self, a: int, b: int) -> None:
        """Cancel one of a node's waits."""
        node = self.world.node(a)
        if node is not None and node.acking:
            self._cancel(node.acking[b % len(node.acking)])

    def _cancel(self, wait: AckWait) -> None:
        wait.cancelled = self.history.now()
        wait.deferred.cancel()

    # The end.

    def somebody_died(self) -> bool:
        """Whether the server has members who are none any more for their users."""
        wanted = {hold.serial for node in self.world.nodes for hold in node.holding}
        return any(serial not in wanted for serial in self.world.serials)

    def give_up_half(self) -> None:
        """Cancel the waits of every second node: nothing is left of them; close() ends the others."""
        for node in self.world.nodes:
            for wait in [wait for wait in node.acking if node.index % 2]:
                self._cancel(wait)
        self.world.rest()
        for node in self.world.nodes:
            bells = {names.doorbell.decode() for names in self.world.beside.values()}
            left = bells.intersection(node.channels)
            if left and not node.acking:
                self.history.wrong.append(("W5", f"{node.life.name}: subscribed to {left}, and nobody waits"))
