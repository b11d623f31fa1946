"""What a server says of itself: which part it has in replication, and in which history."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

__all__ = ["Replication", "fields_of"]

_NONE = b"0" * 40


def fields_of(info: bytes) -> dict[bytes, bytes]:
    """Return the fields of a reply to INFO."""
    return dict(re.findall(rb"^(\w+):([^\r\n]*)", info, re.MULTILINE))


@dataclass(frozen=True, slots=True)
class Replication:
    """A server's role, and the names of the present and the former history of its data."""

    role: bytes
    history: bytes
    former: bytes

    @classmethod
    def of(cls, info: bytes) -> Self:
        """Read the reply to INFO replication."""
        fields = fields_of(info)
        return cls(*(fields.get(name, b"") for name in (b"role", b"master_replid", b"master_replid2")))

    def differs_from(self, before: Replication | None) -> str:
        """Return why a link is to be given up that found ``before`` at its last look; nothing where all is well.

        A history gets another name where the server was promoted, and then the former one's is kept: it has been a
        replica since, and what came to it with another's data was never told to subscribers. It also gets one where the
        first replica attaches, or none has been there for an hour: then none is kept, and nothing was lost.
        """
        if self.role != b"master":
            return "the server is a replica now"
        if before is not None and self.history != before.history and self.former not in (b"", _NONE):
            return "the server has been a replica meanwhile"
        return ""
