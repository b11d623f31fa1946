"""Who may do what: rights, and the principals that have them.

A right is ``VERB:MAP`` or ``VERB:MAP/KEY``. The first ``/`` ends MAP. ``*`` is a wildcard as the whole MAP, and as the
last character of KEY. ``join:NAME`` and ``join:PREFIX*`` name members, and ``metrics`` stands alone. The map of members
is written by ``join`` only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple, Self

from coord.core.names import MEMBERS
from coord.core.quoting import quoted
from coord.errors import InvalidInput

__all__ = ["ANONYMOUS", "VERBS", "Principal", "Right", "Rights"]

WRITE: Final = ("fire", "fail", "pulse", "reset")
"""What ``write`` stands for."""

VERBS: Final = ("read", *WRITE, "hold", "lock", "count", "ack", "join", "evict", "metrics")

ANONYMOUS: Final = "anonymous"
"""The name of whoever shows no token."""

_MAP: Final = re.compile(r"[A-Za-z0-9._-]{1,128}|\*|" + re.escape(MEMBERS), re.ASCII)


class Right(NamedTuple):
    """One right: ``verb`` on the keys of ``map`` (``*``: of each map) that begin with ``prefix``, or equal it."""

    verb: str
    map: str
    prefix: str
    exact: bool

    def covers(self, key: str) -> bool:
        """Whether it is for this key."""
        return key == self.prefix if self.exact else key.startswith(self.prefix)

    @classmethod
    def parse(cls, text: str) -> list[Self]:
        """Return the rights that a word stands for: one, or the four of ``write``; raise `InvalidInput`."""
        verb, colon, scope = text.partition(":")
        if verb == "metrics" and not colon:
            return [cls("metrics", "*", "", exact=False)]
        if verb == "metrics" or verb not in (*VERBS, "write"):
            raise InvalidInput(f"right {quoted(text)}: no such verb; verbs: {', '.join(VERBS)}, write")
        name, slash, key = (MEMBERS, "/", scope) if verb == "join" else scope.partition("/")
        exact = bool(slash) and not key.endswith("*")
        prefix = key.removesuffix("*")
        if not _MAP.fullmatch(name) or "*" in prefix or (exact and not prefix):
            raise InvalidInput(
                f"right {quoted(text)}: a right is VERB:MAP, VERB:MAP/KEY or VERB:MAP/PREFIX*, and MAP may be *"
            )
        return [cls(each, name, prefix, exact) for each in (WRITE if verb == "write" else (verb,))]


class Rights:
    """A set of rights, made from their words."""

    def __init__(self, words: Iterable[str]) -> None:
        self.words = tuple(words)
        self._by_verb: dict[str, list[Right]] = {}
        for word in self.words:
            for right in Right.parse(word):
                self._by_verb.setdefault(right.verb, []).append(right)

    def __repr__(self) -> str:
        return f"<Rights {' '.join(self.words)}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Rights) and set(self.words) == set(other.words)

    def __hash__(self) -> int:
        return hash(frozenset(self.words))

    def __bool__(self) -> bool:
        return bool(self._by_verb)

    def of(self, verb: str, map_name: str) -> list[Right]:
        """Return the rights for this verb on the map; the map of members is written by ``join`` only."""
        if map_name == MEMBERS and verb not in ("read", "join"):
            return []
        return [right for right in self._by_verb.get(verb, ()) if right.map in ("*", map_name)]

    def may(self, verb: str, map_name: str, key: str) -> bool:
        """Whether they allow ``verb`` on one key."""
        for right in self.of(verb, map_name):  # noqa: SIM110 - a generator takes twice as long
            if right.covers(key):
                return True
        return False

    def whole(self, verb: str, map_name: str) -> bool:
        """Whether they allow ``verb`` on each key of the map."""
        return any(not right.prefix and not right.exact for right in self.of(verb, map_name))

    def some(self, verb: str, map_name: str) -> bool:
        """Whether they allow ``verb`` on any key of the map."""
        return bool(self.of(verb, map_name))

    def any(self, map_name: str) -> bool:
        """Whether they allow anything on the map."""
        return any(self.of(verb, map_name) for verb in self._by_verb if verb != "metrics")


@dataclass(frozen=True, slots=True)
class Principal:
    """Who makes a request: the name of a token, and its rights.

    :param expires: when the token, or the cookie for it, does, in seconds since the epoch.
    :param session: names a log-in by cookie; empty for a token.
    :param proof: what it was known by: the digest of its token, or where it connected if it shows none.
    """

    name: str
    rights: Rights
    expires: float | None = None
    session: str = ""
    proof: str = ""

    @property
    def anonymous(self) -> bool:
        """Whether no token was shown."""
        return self.name == ANONYMOUS

    def spender(self, address: str) -> str:
        """Return whose rate its requests count for: whoever shows no token is told apart by address."""
        return f"@{address}" if self.anonymous else self.name

    def may(self, verb: str, map_name: str, key: str) -> bool:
        """Whether it may do ``verb`` to a key."""
        return self.rights.may(verb, map_name, key)

    def may_all(self, verb: str, map_name: str) -> bool:
        """Whether it may do ``verb`` to each key of a map."""
        return self.rights.whole(verb, map_name)

    def may_some(self, verb: str, map_name: str) -> bool:
        """Whether it may do ``verb`` to any key of a map."""
        return self.rights.some(verb, map_name)
