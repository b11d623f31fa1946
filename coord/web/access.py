"""The line of the log for each request: nothing in it is a value, a key, a query, a header or a token. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

__all__ = ["Entry", "trace_of"]

_TRACE: Final = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of a request when it is over.

    ``status`` is 0 if the client hung up before it got an answer. ``route`` is the template, ``-`` for none.
    """

    id: str
    principal: str
    method: str
    route: str
    map: str
    status: int
    seconds: float
    size: int
    trace: str = ""

    @property
    def line(self) -> str:
        """The entry as ``NAME=VALUE`` words."""
        words = (
            f"id={self.id} principal={self.principal} method={self.method} route={self.route} map={self.map} "
            f"status={self.status or '-'} ms={1000 * self.seconds:.1f} bytes={self.size}"
        )
        return words + self.trace


def trace_of(traceparent: str | None, request_id: str | None) -> str:
    """Return the words for a client's own ids, as far as they look like ids: else they are not logged."""
    words = ""
    if traceparent is not None and _TRACE.fullmatch(traceparent):
        words += f" traceparent={traceparent}"
    if request_id is not None and _ID.fullmatch(request_id):
        words += f" client-id={request_id}"
    return words
