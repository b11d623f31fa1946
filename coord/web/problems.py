"""Errors as RFC 9457 says: one table of problems, and one that maps what coord raises to them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from msgspec.json import encode

from coord import errors

__all__ = ["BASE", "PROBLEMS", "Kind", "Problem", "problem_of"]

BASE: Final = "urn:coord:problem:"
"""What the ``type`` of each problem begins with: a name, as no address of the pages is certain to stay."""

CONTENT_TYPE: Final = "application/problem+json"


class Kind(NamedTuple):
    """A kind of problem. ``applied`` says of a call whether it was; `None` where there is no call to speak of."""

    status: int
    title: str
    applied: bool | str | None = False


PROBLEMS: Final[Mapping[str, Kind]] = {
    "invalid-request": Kind(400, "The request is not valid HTTP"),
    "invalid-parameter": Kind(400, "A parameter is missing, unknown or invalid"),
    "invalid-header": Kind(400, "A header is invalid, or the route does not know it"),
    "invalid-body": Kind(400, "The body is not what the route takes"),
    "invalid-key": Kind(400, "The key is invalid"),
    "invalid-name": Kind(400, "The name is invalid"),
    "invalid-time": Kind(400, "The time is invalid"),
    "invalid-input": Kind(400, "The request breaks a rule"),
    "unauthorized": Kind(401, "A valid token is needed"),
    "forbidden": Kind(403, "The token has no right to do this"),
    "cross-origin": Kind(403, "Pages of other origins may not do this"),
    "wrong-host": Kind(421, "The gateway does not go by this name"),
    "not-found": Kind(404, "There is nothing here"),
    "method": Kind(405, "The route does not take this method"),
    "not-acceptable": Kind(406, "No acceptable format"),
    "timed-out": Kind(408, "Not in time", None),
    "unacknowledged": Kind(408, "Not acknowledged in time", True),
    "in-use": Kind(409, "The key is used in another way"),
    "other-ttl": Kind(409, "The leases of the map have another ttl"),
    "lease-ended": Kind(410, "The lease has ended"),
    "lost": Kind(410, "The lock is lost"),
    "history-lost": Kind(410, "The history does not reach back so far", None),
    "listing-lost": Kind(410, "The listing must begin again", None),
    "precondition": Kind(412, "The record is another one"),
    "too-large": Kind(413, "The body is too large"),
    "slow-request": Kind(408, "The request did not arrive in time"),
    "headers-too-large": Kind(431, "The headers are too large"),
    "invalid-value": Kind(413, "The value breaks a rule"),
    "media-type": Kind(415, "The body has a type or coding that is not taken"),
    "name-reused": Kind(422, "The Idempotency-Key belongs to another call"),
    "event-failed": Kind(424, "The event failed", None),
    "too-many": Kind(429, "Too many requests"),
    "internal": Kind(500, "The gateway has a fault", "unknown"),
    "upstream-denied": Kind(502, "Redis denies access to the gateway"),
    "corrupt-record": Kind(502, "The record was not written by coord"),
    "newer-layout": Kind(502, "The map was written by a newer coord"),
    "unreachable": Kind(503, "Redis is not reached"),
    "refused": Kind(503, "Redis refused the call"),
    "recovering": Kind(503, "No lock is granted until the recovery is over"),
    "stopping": Kind(503, "The gateway is stopping"),
    "unconfirmed": Kind(504, "The call was sent, and not answered in time", "unknown"),
    "not-replicated": Kind(504, "The call is applied, and not yet on enough replicas", True),
}
"""Each problem by the last word of its ``type``."""

RETRIED: Final = frozenset({408, 429, 503})
"""The statuses with a ``Retry-After``: of 1, as curl takes 0 for none."""

_OF_ERRORS: Final[tuple[tuple[type[errors.Error], str], ...]] = (
    (errors.InvalidKey, "invalid-key"),
    (errors.InvalidName, "invalid-name"),
    (errors.InvalidTime, "invalid-time"),
    (errors.InvalidValue, "invalid-value"),
    (errors.InvalidInput, "invalid-input"),
    (errors.EventFailed, "event-failed"),
    (errors.Unacknowledged, "unacknowledged"),
    (errors.TimedOut, "timed-out"),
    (errors.Closed, "stopping"),
    (errors.Unreachable, "unreachable"),
    (errors.Unconfirmed, "unconfirmed"),
    (errors.NotReplicated, "not-replicated"),
    (errors.AccessDenied, "upstream-denied"),
    (errors.HoldLost, "lost"),
    (errors.ServerRefused, "refused"),
    (errors.NameReused, "name-reused"),
    (errors.WrongKind, "in-use"),
    (errors.OtherGoal, "in-use"),
    (errors.NewerLayout, "newer-layout"),
    (errors.CorruptRecord, "corrupt-record"),
    (errors.HistoryLost, "history-lost"),
    (errors.ListingLost, "listing-lost"),
)
"""The first match wins."""


class Problem(Exception):
    """A refusal, or a failure, as the client gets it.

    :param name: its name in `PROBLEMS`.
    :param detail: what is wrong here, why, and what to do: a sentence without secrets.
    :param headers: more headers of the answer.
    :param more, members: more members of the body, such as ``parameter``.
    """

    def __init__(
        self,
        name: str,
        detail: str = "",
        *,
        headers: Mapping[str, str] | None = None,
        more: Mapping[str, object] | None = None,
        **members: object,
    ) -> None:
        super().__init__(detail)
        self.name = name
        self.kind = PROBLEMS[name]
        self.detail = detail
        self.members = {**(more or {}), **members}
        self.headers = dict(headers or {})
        if self.kind.status in RETRIED:
            self.headers.setdefault("Retry-After", "1")
        if self.kind.status == 401:
            self.headers.setdefault("WWW-Authenticate", "Bearer")

    @property
    def status(self) -> int:
        """The status of the answer."""
        return self.kind.status

    def body(self, request_id: str = "", *, call: bool = False) -> dict[str, object]:
        """Return the members of the body.

        :param call: whether the request was to change something: then ``applied`` says if it did.
        """
        members: dict[str, object] = {"type": BASE + self.name, "title": self.kind.title, "status": self.status}
        if self.detail:
            members["detail"] = self.detail
        if request_id:
            members["instance"] = f"urn:uuid:{request_id}"
        if call and self.kind.applied is not None:
            members["applied"] = self.kind.applied
        return members | self.members

    def encoded(self, request_id: str = "", *, call: bool = False) -> bytes:
        """Return the body."""
        return encode(self.body(request_id, call=call))


def problem_of(error: BaseException) -> Problem:
    """Return the problem that an exception is to the client; whatever coord does not raise is ``internal``."""
    if isinstance(error, Problem):
        return error
    name = next((name for kind, name in _OF_ERRORS if isinstance(error, kind)), "internal")
    if name == "internal":
        return Problem(name, "this is a bug in coord; the gateway's log has more, under the id of this request")
    members: dict[str, object] = {}
    if isinstance(error, errors.EventFailed):
        members = {"key": error.key, "reason": error.reason}
    if isinstance(error, errors.Unacknowledged):
        members = {"names": error.names, "missing": error.missing, "left": error.left}
    return Problem(name, str(error), more=members)
