"""Leases that clients of a node renew, at any node: how they and their holders are named, and what is kept of a holder.

Such a client names its lease itself. A digest of that name, of the client's own and of the namespace is the incarnation
under which it holds keys, so that any node can serve it, and none has to remember it. The lease is named by the epoch
of the map's lease clock, too: after a recovery has begun it is another one, and what is not moved to that ends.
"""

from __future__ import annotations

import re
from hashlib import sha256
from typing import Final, NamedTuple

from msgspec import Struct

from coord.core.calls import digest
from coord.core.records import Revision, StoredRecord

__all__ = ["Holder", "LeaseName", "Place", "owner_of", "token_of"]

_HOLDER: Final = re.compile(rb"(\d{1,16}) (\w+\.\d+) (\d+) [\w.-]+ ([^\n]+)\n", re.DOTALL)


class LeaseName(Struct, frozen=True):
    """The names that belong to a client's lease; ``incarnation`` is the part that all of them begin with."""

    incarnation: str

    @classmethod
    def of(cls, namespace: str, caller: str, name: str) -> LeaseName:
        """Return those of the lease of this ``name``; ``caller`` keeps the leases of several clients apart."""
        return cls(digest(b"lease", namespace.encode(), caller.encode(), name.encode()).hex()[:32])

    def lease(self, epoch: bytes) -> bytes:
        """Return the name of the lease in an epoch of the map's lease clock; the empty one stands for none yet."""
        return self._with(epoch) if epoch else b"%b.0" % self.incarnation.encode()

    def holder(self, key: bytes) -> bytes:
        """Return the name of the one holder that it may have of a key."""
        return self._with(key)

    def _with(self, part: bytes) -> bytes:
        return b"%b.%d" % (self.incarnation.encode(), int.from_bytes(sha256(part).digest()[:8]) | 1)


class Holder(NamedTuple):
    """What the server keeps of a holder: its key, its lease, its place in the order, and ``need`` (0 for a lock)."""

    key: bytes
    lease: bytes
    sequence: bytes
    need: int

    @classmethod
    def parse(cls, field: bytes | None) -> Holder | None:
        """Parse a field as ``apply.lua`` describes it; ``None`` if there is none, or it is no holder's."""
        match = _HOLDER.match(field or b"")
        if match is None:
            return None
        sequence, lease, need, key = match.groups()
        return cls(key, lease, sequence, int(need))


class Place(NamedTuple):
    """A key as one possible holder of it sees it: the key's record, and what the server keeps of the holder."""

    key: bytes
    name: bytes
    stored: StoredRecord | None
    holder: Holder | None

    @property
    def owned(self) -> bool:
        """Whether the record is this holder's."""
        return owner_of(self.stored) == self.name.decode()

    @property
    def token(self) -> Revision | None:
        """The token of the owner, if the key is a lock that somebody owns."""
        return token_of(self.stored)


def owner_of(stored: StoredRecord | None) -> str | None:
    """Return the name of the holder that a record names as its owner."""
    return stored.tail.held if stored is not None and stored.latched and stored.tail is not None else None


def token_of(stored: StoredRecord | None) -> Revision | None:
    """Return the token that a record tells of."""
    tail = stored.tail if stored is not None and stored.latched else None
    return Revision(*tail.token) if tail is not None and tail.token else None
