"""What the server's message, and their absence, mean to whoever asked."""

from __future__ import annotations

import re
from typing import Final

from coord.errors import AccessDenied, CorruptRecord, Error, NameReused, NewerLayout, ServerRefused

__all__ = ["LinkLeft", "LinkLost", "NoServer", "ServerError", "explain", "means_another_server", "will_pass"]


class ServerError(Exception):
    """An error reply, in the server's message."""


class NoServer(Exception):
    """No server to connect to is known now; there may be one later."""


class LinkLost(Exception):
    """The link was lost before the answer came: whether it was carried out is not known."""


class LinkLeft(LinkLost):
    """The server refused it, in these message, and the link was given up for that: it was not carried out."""


_DENIED: Final = re.compile(
    r"NOPERM|NOAUTH|WRONGPASS|ERR AUTH|ERR invalid password|ERR DB index|ERR Client sent AUTH|can't (run|access)|"
    r"No permission|no permissions",
)
_CODES: Final[dict[str, type[Error]]] = {"NEWER ": NewerLayout, "REUSED ": NameReused}
"""What the message of `apply.lua` begin with, and what they mean."""
_CORRUPT: Final = re.compile(r"CORRUPT |.*WRONGTYPE", re.DOTALL)
# Before an error's code: nothing, or what Redis 6 puts there where a script was refused.
_CODE: Final = r"(?:.*: )?-?"
# A server that is starting, or that is no (longer a) primary: the next link will find a better one.
_ELSEWHERE: Final = re.compile(_CODE + r"(LOADING|READONLY|MASTERDOWN|UNBLOCKED) ", re.DOTALL)
# What passes by itself: a slow script of another client, a cluster on the move, and for who only looks, also a server
# that is full or cannot write to its disk.
_PASSING: Final = re.compile(_CODE + r"(BUSY|LOADING|MASTERDOWN|TRYAGAIN|CLUSTERDOWN) ", re.DOTALL)
_FULL: Final = re.compile(_CODE + r"(OOM|MISCONF) ", re.DOTALL)


def means_another_server(message: str) -> bool:
    """Whether an error reply says that this server cannot serve now, and another link should be made."""
    return _ELSEWHERE.match(_own_text(message)) is not None


def will_pass(message: str, *, writing: bool) -> bool:
    """Whether an error reply is no refusal, but says to ask again later; nothing was done.

    :param writing: what was asked for writes. A full server refuses that, and its caller has to know at once.
    """
    said = _own_text(message)
    return _PASSING.match(said) is not None or (not writing and _FULL.match(said) is not None)


def _own_text(message: str) -> str:
    """Return the server's own message, without what they quote: a key may be called like an error."""
    return re.split(r" \(coord:|, with args beginning", message, maxsplit=1)[0]


def explain(message: str, what: str) -> Error:
    """Return the error for what the server said of ``what``; in each case it was not applied."""
    for code, kind in _CODES.items():
        if message.startswith(code):
            return kind(f"{what}: {message.removeprefix(code)}")
    if _CORRUPT.match(message):
        said = message.removeprefix("CORRUPT ")
        return CorruptRecord(f"{what}: {said}")
    if _DENIED.search(message):
        return AccessDenied(f"{what}: the server denied access: {message}")
    return ServerRefused(f"{what}: the server refused: {message}")
