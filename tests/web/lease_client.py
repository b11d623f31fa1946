"""A client that wants one lock all the time, and renews it, as the page about locks over HTTP says."""

from __future__ import annotations

from random import Random
from typing import NamedTuple
from urllib.parse import urlencode

from web.client import Connection, Web

__all__ = ["Contender"]


class _Asked(NamedTuple):
    """A request under way: what for, when the client began to send it, when it arrives, and on which connection."""

    what: str
    target: str
    sent: float
    arrives: float
    web: Web
    connection: Connection | None


class Contender:
    """One process. It believes in its lock until its ``deadline``, and writes with its ``token``.

    ``grants`` are all tokens that it was told.
    """

    def __init__(self, name: str, chance: Random) -> None:
        self.name = name
        self.grants: list[str] = []
        self._chance = chance
        self._asked: _Asked | None = None
        self._new_lease()

    def _new_lease(self) -> None:
        self._lease = f"{self._chance.getrandbits(128):032x}"
        self.token = ""
        self.deadline = self._renewed = 0.0

    def valid(self, now: float) -> bool:
        """Whether it takes the lock for its own."""
        return bool(self.token) and now < self.deadline

    # What it does.

    def act(self, now: float, gateways: list[Web]) -> None:
        """Do what is next: take an answer, renew, give back, or ask."""
        if self._asked is not None:
            self._go_on(now, gateways)
        elif self.token and now >= self.deadline:
            # Lost. Under another lease nothing of this one can do harm.
            self._send("end", "DELETE", f"leases/{self._lease}", {}, now, gateways)
        elif self.token and self._chance.random() < 0.05:
            self._send("end", "DELETE", "lock", self._query(), now, gateways)
        elif self.token:
            if now >= self._renewed + (self.deadline - self._renewed) / 3:
                self._send("lock", "PUT", "lock", {**self._query(), "token": self.token}, now, gateways)
        elif self._chance.random() < 0.5:
            wait = self._chance.choice((0, 0, 5, 20))
            self._send("lock", "PUT", "lock", {**self._query(), "wait": str(wait)}, now, gateways)

    def _query(self) -> dict[str, str]:
        return {"key": "job", "lease": self._lease}

    def _send(self, what: str, method: str, path: str, query: dict[str, str], now: float, gateways: list[Web]) -> None:
        target = f"{method} /v1/maps/m/{path}?{urlencode(query)}"
        if what == "end":
            self._new_lease()
        arrives = now + self._chance.choice((0.0, 0.0, 0.0, 0.05, 2.0))
        self._asked = _Asked(what, target, now, arrives, self._chance.choice(gateways), None)

    def _go_on(self, now: float, gateways: list[Web]) -> None:
        asked = self._asked
        assert asked is not None
        if asked.connection is None:
            if asked.web not in gateways:
                self._asked = None
            elif now >= asked.arrives:
                method, _, target = asked.target.partition(" ")
                self._asked = asked._replace(connection=asked.web.begin(method, target))
            return
        if self._chance.random() < 0.3:
            # The answer is on its way.
            return
        response = asked.connection.take()
        if response is not None:
            self._asked = None
            asked.connection.hang_up()
            if asked.what == "lock":
                self._told(asked, response.status, response.json if response.body else {})
        elif asked.connection.lost or now > asked.sent + 30:
            asked.connection.hang_up()
            self._asked = None

    def _told(self, asked: _Asked, status: int, body: dict[str, object]) -> None:
        if status == 200:
            token, ttl, waited = body["token"], body["ttl"], body["waited"]
            assert isinstance(token, str)
            assert isinstance(ttl, float)
            assert isinstance(waited, float)
            self.token, self._renewed, self.deadline = token, asked.sent + waited, asked.sent + waited + ttl
            if token not in self.grants:
                self.grants.append(token)
        elif status == 410:
            self._new_lease()

    def lose_connection(self, web: Web) -> None:
        """Its connection to a gateway is gone, which died: no answer comes."""
        if self._asked is not None and self._asked.web is web:
            if self._asked.connection is not None:
                self._asked.connection.hang_up()
            self._asked = None

    def hang_up(self) -> None:
        """Give up waiting for an answer."""
        if self._asked is not None:
            self.lose_connection(self._asked.web)
