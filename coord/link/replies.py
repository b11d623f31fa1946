"""What the server's words, and their absence, mean to whoever asked."""

from __future__ import annotations

import re
from typing import Final

from coord.errors import AccessDenied, CorruptRecord, Error, ServerRefused

__all__ = ["LinkLost", "NoServer", "ServerError", "explain", "means_another_server"]


class ServerError(Exception):
    """An error reply, in the server's words."""


class NoServer(Exception):
    """No server to connect to is known now; there may be one later."""


class LinkLost(Exception):
    """The link was lost before the answer came: whether it was carried out is not known."""


_DENIED: Final = re.compile(
    r"NOPERM|NOAUTH|WRONGPASS|ERR AUTH|ERR invalid password|ERR DB index|ERR Client sent AUTH|can't (run|access)|"
    r"No permission|no permissions",
)
_CORRUPT: Final = re.compile(r"CORRUPT |.*WRONGTYPE", re.DOTALL)
# A server that is starting, or that is no (longer a) primary: the next link will find a better one.
_ELSEWHERE: Final = re.compile(r".*(LOADING |READONLY |MASTERDOWN |UNBLOCKED )", re.DOTALL)


def means_another_server(words: str) -> bool:
    """Whether an error reply says that this server cannot serve now, and another link should be made."""
    return _ELSEWHERE.match(words) is not None


def explain(words: str, what: str) -> Error:
    """Return the error for what the server said of ``what``; in each case it was not applied."""
    if _CORRUPT.match(words):
        said = words.removeprefix("CORRUPT ")
        return CorruptRecord(f"{what}: {said}")
    if _DENIED.search(words):
        return AccessDenied(f"{what}: the server denied access: {words}")
    return ServerRefused(f"{what}: the server refused: {words}")
