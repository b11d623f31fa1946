"""Query every server of a cluster for ``coord doctor``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as TookTooLong

from coord import Coordinator, errors
from coord.core.slots import Address, slot_of, tag_of
from coord.doctor.cluster import CLUSTER_SETTINGS, ClusterFacts, Member, members_of
from coord.doctor.exam import SCRATCH, Exam, facts_from
from coord.doctor.rules import Finding, Level
from coord.link.discovery import server_at
from coord.link.link import CONNECTED
from coord.link.replies import ServerError, explain
from coord.link.target import Target

__all__ = ["Askers", "cluster_facts_of", "examine_shards", "scratch_maps"]

Ask = Callable[..., Awaitable[Any]]

# Seconds for a server to let us in and answer.
_PATIENCE: Final = 5.0
# Names tried: a server with a single slot may be missed.
_TRIED: Final = 2_000


class Askers:
    """Asks one server of a cluster after the other, each on a connection of its own.

    :param target: the cluster.
    """

    def __init__(self, target: Target, clock: Any) -> None:
        self._target = target
        self._clock = clock

    async def __call__(self, address: str, *words: str) -> Any:
        """Send a command to the server at HOST:PORT; raise `coord.Error` if there is no answer."""
        asked = Deferred.fromCoroutine(self._ask(address, words))
        try:
            return await asked.addTimeout(_PATIENCE, self._clock)
        except errors.Error:
            raise
        except TookTooLong:
            raise errors.Unreachable(f"no answer within {_PATIENCE:g}s") from None
        except Exception as error:  # noqa: BLE001 - whatever it is, there is no answer
            raise errors.Unreachable(str(error) or type(error).__name__) from None

    async def _ask(self, address: str, words: Sequence[str]) -> Any:
        # Imported late: they import txredisapi and OpenSSL.
        from coord.link.handshake import log_in
        from coord.link.protocol import Connection, connect_to

        cluster = self._target.cluster
        assert cluster is not None
        host, _, port = address.rpartition(":")
        there = cluster.remap(Address(host, int(port)))
        connection = Connection(lambda _: None)
        server = await server_at(there.host, there.port, address, cluster.tls).resolve(self._clock)
        try:
            await connect_to(server.endpoint, connection)
            await log_in(connection, self._target.at(server, address))
            return await connection.ask(*(word.encode() for word in words))
        except ServerError as error:
            raise explain(str(error), address) from None
        finally:
            connection.abort()

    async def any_of(self, coordinator: Coordinator, *words: str) -> Any:
        """Send a command to a server that the node is linked to; raise `coord.Error` if there is no answer.

        Not to that of one map: it may be away.
        """
        linked = [each.address for each in coordinator.links if each.state is CONNECTED]
        if not linked:
            raise errors.Unreachable(f"{coordinator.server}: {coordinator.reason}")
        return await self(linked[0], *words)


async def examine_shards(
    coordinator: Coordinator, other: Coordinator, ask: Ask, *, clock: Any
) -> tuple[list[Exam], list[Finding]]:
    """Try everything that a node does at each server that has slots; return the exams, and what was found.

    ``ask(*words)`` sends a command to any server.
    """
    exams, found = [], []
    for scratch in await scratch_maps(coordinator.namespace, ask):
        exam = Exam(coordinator, other, database=0, clock=clock, scratch=scratch, alone=True)
        try:
            found += await exam.run()
        except errors.Unreachable as error:
            # The others are there, and what they say tells why.
            found.append(Finding("trial", Level.WARNING, str(error)))
        else:
            exams.append(exam)
    return exams, list(dict.fromkeys(found))


async def scratch_maps(namespace: str, ask: Ask) -> list[str]:
    """Return the name of a map at each server that has slots, found by trying names; ``ask`` asks any server."""
    ranges = await ask("CLUSTER", "SLOTS")
    owners: dict[bytes, list[range]] = {}
    for first, last, primary, *_ in ranges:
        owners.setdefault(primary[2], []).append(range(first, last + 1))
    maps = []
    for slots in owners.values():
        names = (f"{SCRATCH}{number or ''}" for number in range(_TRIED))
        fitting = (name for name in names if _is_in(slot_of(tag_of(namespace, name)), slots))
        maps += [name for name in [next(fitting, None)] if name is not None]
    return maps


def _is_in(slot: int, ranges: Sequence[range]) -> bool:
    return any(slot in each for each in ranges)


async def cluster_facts_of(ask: Ask, ask_at: Ask) -> ClusterFacts:
    """Ask one server who the others are, and then each of them.

    ``ask(*words)`` sends a command to any server, ``ask_at(address, *words)`` to the one at HOST:PORT. Both raise
    `coord.Error` if there is no answer.

    :raises AccessDenied: if CLUSTER NODES is forbidden.
    """
    members = members_of(_text(await ask("CLUSTER", "NODES")))
    found = {each.address: await _found(ask_at, each) for each in members if not each.failed}
    primaries = [each for each in members if "master" in each.flags and found.get(each.address) == each.id]
    facts, moving = {}, {}
    for each in primaries:
        at = partial(ask_at, each.address)
        try:
            facts[each.address] = await facts_from(at, CLUSTER_SETTINGS)
            moving[each.address] = _own(members_of(_text(await at("CLUSTER", "NODES"))))
        except errors.Error as error:
            found[each.address] = str(error)
    return ClusterFacts(members, found, facts, moving)


async def _found(ask_at: Ask, member: Member) -> str:
    """Return the id of the server that answers at a member's address, or why none does."""
    try:
        return _text(await ask_at(member.address, "CLUSTER", "MYID"))
    except errors.Error as error:
        return str(error)


def _own(members: Sequence[Member]) -> dict[int, str]:
    return {slot: to for each in members for slot, to in each.open_slots.items()}


def _text(reply: bytes) -> str:
    return reply.decode(errors="replace")
