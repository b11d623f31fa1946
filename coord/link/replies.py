"""Error replies and lost answers: what they mean to a caller."""

from __future__ import annotations

import re
from typing import Final

from coord.errors import (
    AccessDenied,
    CorruptRecord,
    Error,
    InvalidInput,
    NameReused,
    NewerLayout,
    OtherGoal,
    ServerRefused,
    WrongKind,
)

__all__ = [
    "GrantLost",
    "LeaseOver",
    "LinkLeft",
    "LinkLost",
    "NoServer",
    "ServerError",
    "describe",
    "explain",
    "means_another_server",
    "will_pass",
]


class ServerError(Exception):
    """An error reply, with the server's message."""


class NoServer(Exception):
    """No server is known now; there may be one later."""


class LinkLost(Exception):
    """The link was lost before the answer came; the command may or may not have been executed."""


class LinkLeft(LinkLost):
    """The server refused the command with this message, so the link was given up; it was not executed."""


class LeaseOver(Error):
    """The lease that a call names is over; it was not applied."""


class GrantLost(Error):
    """The server does not have the grant that a call names, and may have granted the lock again; it was not applied."""


_DENIED: Final = re.compile(
    r"^DENIED |NOPERM|NOAUTH|WRONGPASS|ERR AUTH|ERR invalid password|ERR DB index|ERR Client sent AUTH|"
    r"can't (run|access)|No permission|no permissions",
)
_CODES: Final[dict[str, type[Error]]] = {
    "GOAL ": OtherGoal,
    "KIND ": WrongKind,
    "LOST ": GrantLost,
    "NEED ": InvalidInput,
    "NEWER ": NewerLayout,
    "OVER ": LeaseOver,
    "REUSED ": NameReused,
}
"""The errors for messages of `apply.lua`, by the code that these begin with."""
_CORRUPT: Final = re.compile(r"CORRUPT |.*WRONGTYPE", re.DOTALL)
# A prefix of an error's code: nothing, or the one of Redis 6 for errors in scripts.
_CODE: Final = r"(?:.*: )?-?"
# The server is starting, or is not a primary (any more): the next link will find a better one.
_ELSEWHERE: Final = re.compile(_CODE + r"(LOADING|READONLY|MASTERDOWN|UNBLOCKED) ", re.DOTALL)
# Errors that pass by themselves: a slow script of another client, a cluster that moves slots; and for reads also a
# server that is out of memory or cannot write to its disk.
_PASSING: Final = re.compile(_CODE + r"(BUSY|LOADING|MASTERDOWN|TRYAGAIN|CLUSTERDOWN) ", re.DOTALL)
_FULL: Final = re.compile(_CODE + r"(OOM|MISCONF) ", re.DOTALL)


def means_another_server(message: str) -> bool:
    """Whether an error means that this server cannot serve now, so that we should connect anew."""
    return _ELSEWHERE.match(_own_text(message)) is not None


def will_pass(message: str, *, writing: bool) -> bool:
    """Whether an error means to try again later; nothing was executed.

    :param writing: the command writes. If the server is out of memory, its caller has to know at once.
    """
    said = _own_text(message)
    return _PASSING.match(said) is not None or (not writing and _FULL.match(said) is not None)


def _own_text(message: str) -> str:
    """Return a message without the names that it quotes, as a key may be named like an error."""
    return re.split(r" \(coord:|, with args beginning", message, maxsplit=1)[0]


# Sent without a command, on a connection that the server then closes. What it sends about protected mode fills a page.
_PROTECTED: Final = re.compile(r"DENIED .*protected mode")
_TOO_MANY: Final = re.compile(r"ERR max number of clients")


def describe(message: str) -> str:
    """Return an error's message, or what it means to an operator if that is not plain."""
    if _PROTECTED.match(message):
        return (
            "the server is in protected mode and has no password: it answers on its own machine only; "
            "set a password there (requirepass), or protected-mode no"
        )
    if _TOO_MANY.match(message):
        return f"the server has as many clients as it may (its maxclients): {message}"
    return message


# What Redis 7 and Valkey add to the errors of a script's commands.
_OF_SCRIPT: Final = re.compile(r" script: (?:[0-9a-f]{40}, )?on @user_script:[0-9]+\.$")


def explain(message: str, what: str) -> Error:
    """Return the error for a message about ``what``; in each case it was not applied."""
    message = _OF_SCRIPT.sub("", message)
    for code, kind in _CODES.items():
        if message.startswith(code):
            return kind(f"{what}: {message.removeprefix(code)}")
    if _CORRUPT.match(message):
        said = message.removeprefix("CORRUPT ")
        return CorruptRecord(f"{what}: {said}")
    if _DENIED.search(message):
        return AccessDenied(f"{what}: the server denied access: {describe(message)}")
    return ServerRefused(f"{what}: the server refused: {message}")
