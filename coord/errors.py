"""Everything coord raises.

A tree::

    Error
    ├── InvalidInput (ValueError)   you asked for something impossible: nothing was sent
    │   ├── InvalidKey
    │   ├── InvalidName
    │   ├── InvalidTime
    │   ├── InvalidURL
    │   └── InvalidValue
    ├── EventFailed                 the event you waited for came, and it was a failure
    ├── TimedOut (TimeoutError)     your own deadline for a wait has passed
    ├── Closed                      you closed the coordinator
    ├── Unreachable                 no server in time: the call was not applied
    ├── Unconfirmed                 sent, no answer in time: it may have been, or may yet be, applied
    ├── NotReplicated               applied, but not on as many replicas as you asked for
    ├── AccessDenied                the server knows us not, or does not let us
    ├── ServerRefused               the server would not do it (out of memory, ...): not applied
    ├── NameReused                  the name of a call was given to another call: not applied
    ├── NewerLayout                 a newer coord wrote the map: this one does not touch it
    ├── CorruptRecord               what stands in Redis for this key is not coord's
    ├── HistoryLost                 a watch cannot go on without a gap
    ├── ListingLost                 a listing cannot go on: begin it again
    └── NoEmbeddedServer            the embedded server cannot be run here

Each class's docstring is the sentence that its user reads when there is nothing more precise to say.
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
    "ServerRefused",
    "TimedOut",
    "Unconfirmed",
    "Unreachable",
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
    """A time is a number of seconds that is not negative and not absurd."""


class InvalidURL(InvalidInput):
    """The server's address cannot be understood."""


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


class Closed(Error):
    """The coordinator was closed."""


class Unreachable(Error):
    """The server was not reached in time; the call was not applied."""


class Unconfirmed(Error):
    """The call was sent and not answered in time; it may have been, or may yet be, applied."""


class NotReplicated(Error):
    """The call was applied, but not enough replicas have it yet.

    ``applied`` is its outcome, as the call would have answered it.
    """

    def __init__(self, message: str, applied: object = None) -> None:
        super().__init__(message)
        self.applied = applied


class AccessDenied(Error):
    """The server denied access."""


class ServerRefused(Error):
    """The server refused the call; it was not applied."""


class NameReused(Error):
    """The name given with ``once=`` belongs to another call; this one was not applied."""


class NewerLayout(Error):
    """The map was written by a newer coord; this node does not touch it, and has to be upgraded."""


class CorruptRecord(Error):
    """What stands in Redis under this name was not written by coord."""


class HistoryLost(Error):
    """The history no longer reaches back to where the watch stands."""


class ListingLost(Error):
    """Another server process answers now, and knows no next page; begin the listing again."""


class NoEmbeddedServer(Error):
    """The embedded server cannot be run here."""
