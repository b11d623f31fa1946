"""Who wants locks, and what becomes of them: the users' verbs, and the looks at the end of a run."""

from __future__ import annotations

from typing import Any

from twisted.python.failure import Failure

from coord.errors import Closed
from simulation.history import Eviction, Key, Overlap, Request
from simulation.node import SimNode
from simulation.world import World

__all__ = ["Locks"]

_TIMEOUTS = (None, None, None, None, None, 0.0, 0.3, 3.0)


class Locks:
    """The users' verbs about locks, and the looks. Numbers stand for what there is: they are reduced to it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.history = world.history

    # Verbs.

    def lock(self, a: int, b: int, c: int) -> None:
        """Ask for a lock; who loses it releases it at once, or leaves that to the node."""
        node = self.world.node(a)
        if node is not None:
            self._ask(node, self.world.lock(b), _TIMEOUTS[c % len(_TIMEOUTS)], leaves=c // 8 % 2 == 1)

    def _ask(self, node: SimNode, where: Key, timeout: float | None, *, leaves: bool) -> None:
        history = self.history
        request = Request(history.serial(), node.life, where, history.now(), timeout, leaves)
        history.locks[request.serial] = request
        node.locking.append(request)
        request.deferred = node.maps[where[0]].lock(where[1], {"n": request.serial}, timeout=timeout)
        request.deferred.addCallbacks(
            self._granted, self._refused, callbackArgs=(node, request), errbackArgs=(node, request)
        )

    def _granted(self, lock: Any, node: SimNode, request: Request) -> None:
        if node.life.crashed is not None:
            return
        history = self.history
        request.granted, request.lock = history.now(), lock
        # Only here a lock begins to be valid.
        for other in history.locks.values():
            alive = other.lock is not None and other.life.crashed is None and other is not request
            if alive and other.where == request.where and other.lock.valid and lock.valid:
                history.overlaps.append(Overlap(request.granted, other, request))
        lock.lost().addErrback(self._lost, node, request)

    def _refused(self, failure: Failure, node: SimNode, request: Request) -> None:
        if node.life.crashed is None:
            request.error = type(failure.value).__name__
            self._over(node, request)

    def _lost(self, failure: Failure, node: SimNode, request: Request) -> None:
        if node.life.crashed is not None:
            return
        if not failure.check(Closed):
            request.lost = self.history.now()
            if not request.leaves:
                request.lock.release().addErrback(lambda _: None)
        self._over(node, request)

    def _over(self, node: SimNode, request: Request) -> None:
        request.over = request.over or self.history.now()
        if request in node.locking:
            node.locking.remove(request)

    def unlock(self, a: int, b: int) -> None:
        """Release one of a node's locks."""
        node = self.world.node(a)
        owned = [request for request in node.locking if request.lock is not None] if node else []
        if node is not None and owned:
            self._release(node, owned[b % len(owned)])

    def _release(self, node: SimNode, request: Request) -> None:
        self._over(node, request)
        request.lock.release().addErrback(lambda _: None)

    def unask(self, a: int, b: int) -> None:
        """Give up a request that is not granted."""
        node = self.world.node(a)
        waiting = [request for request in node.locking if request.lock is None] if node else []
        if waiting:
            request = waiting[b % len(waiting)]
            request.cancelled = True
            request.deferred.cancel()

    def evict(self, a: int, b: int) -> None:
        """Ask the owner of a lock to release it."""
        node, where = self.world.node(a), self.world.lock(b)
        if node is not None:
            eviction = Eviction(self.history.now(), where)
            self.history.evictions.append(eviction)

            def evicted(applied: Any) -> None:
                value = applied.record.value if applied.record is not None and applied.record.latched else None
                if isinstance(value, dict) and node.life.crashed is None:
                    eviction.answered, eviction.owner = self.history.now(), value.get("n")

            node.maps[where[0]].reset(where[1], evict=True).addCallbacks(evicted, lambda _: None)

    # Looks.

    def look(self) -> None:
        """At rest somebody owns each lock that is wanted, and the server knows of nobody else."""
        wanted = sorted(request.serial for request in self._wanted())
        there = self.world.serials
        if wanted != there:
            self._wrong("L9", f"at rest, {wanted} want locks, and the server has {there}")
        for where in {request.where for request in self._wanted()}:
            stands = self.world.books(where[0]).stands(where)
            owner = self.history.locks.get(stands.serial or 0) if stands is not None and stands.latched else None
            if owner is None or owner.lock is None or not owner.lock.valid:
                self._wrong("L9", f"at rest, {where} stands as {stands}, and its owner is {owner and owner.serial}")
            elif stands is None or stands.token != owner.lock.token:
                self._wrong("L8", f"at rest, {where} stands as {stands}, and its owner has {owner.lock.token}")

    def _wanted(self) -> list[Request]:
        return [request for node in self.world.nodes for request in node.locking]

    def release_all(self) -> None:
        """Release what is owned, until everybody had it."""
        for _ in range(len(self._wanted()) + 1):
            for node in self.world.nodes:
                for request in [request for request in node.locking if request.lock is not None]:
                    self._release(node, request)
            self.world.rest()
        left = [request.serial for request in self._wanted()]
        if left:
            self._wrong("L9", f"{left} are not granted, though everybody else has released")

    def _wrong(self, promise: str, words: str) -> None:
        self.history.wrong.append((promise, words))
