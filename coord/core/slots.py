"""The slots of a cluster: which one a map is in, who serves it, and what a server's refusal says about that.

A cluster divides its keys among its servers by 16,384 slots. All keys and channels of a map have one tag, so a map is
in one slot, on one server.
"""

from __future__ import annotations

import re
from binascii import crc_hqx
from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Any, Final, NamedTuple

__all__ = ["SLOTS", "Address", "Atlas", "Redirect", "Refusal", "parse_redirect", "parse_slots", "slot_of", "tag_of"]

SLOTS: Final = 16_384


class Address(NamedTuple):
    """A server's host and port, as the cluster announces them."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def tag_of(namespace: str, name: str) -> bytes:
    """Return the hash tag of a map."""
    return b"%b/%b" % (namespace.encode(), name.encode())


def slot_of(tag: bytes) -> int:
    """Return the slot of a hash tag (CRC16 of XMODEM, modulo the number of slots)."""
    return crc_hqx(tag, 0) % SLOTS


class Refusal(StrEnum):
    """How a cluster's server says that it does not serve a slot now; the command was not executed."""

    MOVED = "MOVED"
    ASK = "ASK"
    TRYAGAIN = "TRYAGAIN"
    DOWN = "CLUSTERDOWN"


class Redirect(NamedTuple):
    """A refusal, with the slot that it names (-1: none) and the server that is to be asked instead, if any.

    An empty host stands for the host that was asked.
    """

    refusal: Refusal
    slot: int = -1
    address: Address | None = None


_REDIRECT: Final = re.compile(r"(MOVED|ASK) (\d{1,5}) (\S*):(\d{1,5})$")
_DOWN: Final = re.compile(r"(TRYAGAIN|CLUSTERDOWN) ")


def parse_redirect(message: str) -> Redirect | None:
    """Return what a server's error says about a slot; ``None`` if it is about something else."""
    found = _REDIRECT.match(message)
    if found is not None:
        host = found[3].removeprefix("[").removesuffix("]")
        return Redirect(Refusal(found[1]), int(found[2]), Address(host if host != "?" else "", int(found[4])))
    other = _DOWN.match(message)
    return None if other is None else Redirect(Refusal(other[1]))


class Served(NamedTuple):
    """The slots from ``first`` to ``last`` with their primary, and all replicas of that."""

    first: int
    last: int
    primary: Address
    replicas: tuple[Address, ...]


def parse_slots(reply: Any, asked: Address, remap: Callable[[Address], Address] = lambda each: each) -> list[Served]:
    """Return what a reply to CLUSTER SLOTS says; raise `ValueError` if it is none.

    :param asked: the server that was asked: one without a host of its own has that server's.
    :param remap: returns the address at which an announced one is reached.
    """
    try:
        return [
            Served(int(first), int(last), *_primary_first([_address(node, asked, remap) for node in nodes]))
            for first, last, *nodes in reply
        ]
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise ValueError(f"no answer to CLUSTER SLOTS: {error}") from None


def _primary_first(nodes: list[Address]) -> tuple[Address, tuple[Address, ...]]:
    return nodes[0], tuple(nodes[1:])


def _address(node: list[Any], asked: Address, remap: Callable[[Address], Address]) -> Address:
    host = (node[0] or b"").decode()
    # "?" is a server that is to announce a name and has none.
    return remap(Address(asked.host if host in ("", "?") else host, int(node[1])))


class Atlas:
    """Who serves each slot, as far as is known.

    A server that lags behind may answer with an old assignment after another one has said MOVED. So what MOVED says of
    a slot stands until a map was read where it leads (`arrived`), another MOVED comes, or the server that it names
    does not serve (`distrust`). Then answers count again. ASK is no assignment, and never comes here.
    """

    def __init__(self) -> None:
        self._owners: list[Address | None] = [None] * SLOTS
        self._moved: dict[int, Address] = {}
        self.nodes: tuple[Address, ...] = ()
        # The servers that have slots, each once.
        self.primaries: list[Address] = []

    @property
    def known(self) -> bool:
        """Whether an answer has come."""
        return bool(self.nodes)

    def owner(self, slot: int) -> Address | None:
        """Return the server of a slot; ``None`` if there is none, or it is not known."""
        return self._moved.get(slot) or self._owners[slot]

    def answered(self, served: Iterable[Served]) -> None:
        """Take an answer to CLUSTER SLOTS."""
        owners: list[Address | None] = [None] * SLOTS
        nodes: dict[Address, None] = {}
        primaries: dict[Address, None] = {}
        for first, last, primary, replicas in served:
            nodes |= dict.fromkeys((primary, *replicas))
            slots = range(SLOTS)[max(first, 0) : max(last + 1, 0)]
            owners[slots.start : slots.stop] = [primary] * len(slots)
            if slots:
                primaries[primary] = None
        self._owners, self.nodes, self.primaries = owners, tuple(nodes), list(primaries)

    def moved(self, slot: int, owner: Address) -> None:
        """Take a MOVED."""
        if 0 <= slot < SLOTS:
            self._moved[slot] = owner

    def arrived(self, slot: int, owner: Address) -> None:
        """Note that a server serves a slot: what MOVED has said counts as an answer does, from now on."""
        if self._moved.get(slot) == owner:
            self._owners[slot] = self._moved.pop(slot)

    def distrust(self, owner: Address) -> None:
        """Go by the answers for what MOVED has assigned to this server: it cannot be reached, or does not serve it."""
        self._moved = {slot: each for slot, each in self._moved.items() if each != owner}
