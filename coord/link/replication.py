"""The replication state of a server: its role, and the history of its data."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

__all__ = ["Data", "Replication", "fields_of"]

_NONE = b"0" * 40


def fields_of(info: bytes) -> dict[bytes, bytes]:
    """Return the fields of a reply to INFO."""
    return dict(re.findall(rb"^(\w+):([^\r\n]*)", info, re.MULTILINE))


@dataclass(frozen=True, slots=True)
class Replication:
    """A server's role, and the ids of the present and the former history of its data."""

    role: bytes
    history: bytes
    former: bytes

    @classmethod
    def of(cls, info: bytes) -> Self:
        """Parse the reply to INFO replication."""
        fields = fields_of(info)
        return cls(*(fields.get(name, b"") for name in (b"role", b"master_replid", b"master_replid2")))

    def differs_from(self, before: Replication | None) -> str:
        """Return why a link that found ``before`` has to be given up; empty if it need not.

        A history gets a new id when the server is promoted, and then the former id is kept: the server was a replica
        meanwhile, and subscribers got no messages for the data that it received. It also gets a new id when the first
        replica attaches, or an hour after the last one left: then no former id is kept, and nothing was lost.
        """
        if self.role != b"master":
            return "the server is a replica now"
        if before is not None and self.history != before.history and self.former not in (b"", _NONE):
            return "the server has been a replica meanwhile"
        return ""


Data = tuple[bytes, Replication | None]
"""A server's run id and its replication state; they identify its data."""
