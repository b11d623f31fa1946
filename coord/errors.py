"""Everything coord raises.

A tree::

    Error
    ├── InvalidInput (ValueError)   you asked for something impossible: nothing was sent
    │   ├── InvalidKey
    │   ├── InvalidName
    │   ├── InvalidTime
    │   ├── InvalidURL
    │   └── InvalidValue
    ├── EventFailed                 the event you waited for failed
    ├── TimedOut (TimeoutError)     your own deadline for a wait has passed
    │   └── Unacknowledged          not everybody has acknowledged the change
    ├── Closed                      you closed the coordinator
    ├── Unreachable                 no server in time: the call was not applied
    ├── Unconfirmed                 no answer in time: the call may have been, or may yet be, applied
    ├── NotReplicated               applied, but not on as many replicas as you asked for
    ├── AccessDenied                the server rejected our credentials or permissions
    ├── HoldLost                    somebody has ended your hold
    ├── ServerRefused               the server refused the call (out of memory, ...): not applied
    ├── NameReused                  the call's name belongs to another call: not applied
    ├── WrongKind                   the key is an event where you count, or a counter: not applied
    ├── OtherGoal                   the counter has another goal: not applied
    ├── NewerLayout                 a newer coord wrote the map: upgrade this node
    ├── CorruptRecord               the key's data in Redis was not written by coord
    ├── HistoryLost                 a watch cannot continue without a gap
    ├── ListingLost                 a listing cannot continue: begin it again
    └── NoEmbeddedServer            the embedded server cannot be run here

Each class's docstring is its default message.
"""

from __future__ import annotations

import builtins

from twisted.internet import defer

__all__ = [
    "AccessDenied",
    "Closed",
    "CorruptRecord",
    "Error",
    "EventFailed",
    "HistoryLost",
    "HoldLost",
    "InvalidInput",
    "InvalidKey",
    "InvalidName",
    "InvalidTime",
    "InvalidURL",
    "InvalidValue",
    "ListingLost",
    "NameReused",
    "NewerLayout",
    "NoEmbeddedServer",
    "NotReplicated",
    "OtherGoal",
    "ServerRefused",
    "TimedOut",
    "Unacknowledged",
    "Unconfirmed",
    "Unreachable",
    "WrongKind",
]


class Error(Exception):
    """Something went wrong in coord."""

    def __str__(self) -> str:
        return super().__str__() or (self.__doc__ or "").partition("\n")[0]


class InvalidInput(Error, ValueError):
    """The call breaks a rule; nothing was sent."""


class InvalidKey(InvalidInput):
    """A key is 1 to 512 bytes of UTF-8 without control characters."""


class InvalidName(InvalidInput):
    """A name is 1 to 128 letters, digits, dots, underscores and hyphens."""


class InvalidTime(InvalidInput):
    """A time is a non-negative number of seconds within the limits."""


class InvalidURL(InvalidInput):
    """The server's address is invalid."""


class InvalidValue(InvalidInput):
    """A value is JSON: at most 64 KiB, nested 100 deep, no NaN, no lone surrogates."""


class EventFailed(Error):
    """The event failed.

    ``key`` (str) names it, ``reason`` (a JSON value) is what ``fail`` was called with.
    """

    def __init__(self, key: str, reason: object) -> None:
        super().__init__(key, reason)
        self.key = key
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.key} failed: {self.reason}"


class TimedOut(Error, builtins.TimeoutError, defer.TimeoutError):
    """The wait's deadline has passed."""


class Unacknowledged(TimedOut):
    """Not everybody has acknowledged the change.

    ``names``, ``missing`` and ``left`` are as in ``Acks``.
    """

    def __init__(
        self, message: str, names: tuple[str, ...] = (), missing: tuple[str, ...] = (), left: tuple[str, ...] = ()
    ) -> None:
        super().__init__(message)
        self.names = names
        self.missing = missing
        self.left = left


class Closed(Error):
    """The coordinator was closed."""


class Unreachable(Error):
    """The server was not reached in time; the call was not applied."""


class Unconfirmed(Error):
    """The call was sent but not answered in time; it may have been, or may yet be, applied."""


class NotReplicated(Error):
    """The call was applied, but not enough replicas have it yet.

    ``applied`` is the outcome that the call would have returned.
    """

    def __init__(self, message: str, applied: object = None) -> None:
        super().__init__(message)
        self.applied = applied


class AccessDenied(Error):
    """The server denied access."""


class ServerRefused(Error):
    """The server refused the call; it was not applied."""


class HoldLost(Error):
    """A hold or a lock is not this node's any more: it was evicted (``reset`` with ``evict=True``), or lost."""


class NameReused(Error):
    """The name given with ``once=`` belongs to another call; this one was not applied."""


class WrongKind(Error):
    """The key is an event where a counter is needed, or a counter where an event is; the call was not applied."""


class OtherGoal(Error):
    """The counter has another goal; nothing was counted."""


class NewerLayout(Error):
    """The map was written by a newer coord; this node does not touch it and must be upgraded."""


class CorruptRecord(Error):
    """The data in Redis under this name was not written by coord."""


class HistoryLost(Error):
    """The history no longer reaches back to the watch's position."""


class ListingLost(Error):
    """Another server process answers now; begin the listing again."""


class NoEmbeddedServer(Error):
    """The embedded server cannot be run here."""
