"""What a handler gets of a request, and what it returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, Self, TypeVar

from msgspec.json import encode

from coord.web.addresses import Client
from coord.web.rights import Principal

if TYPE_CHECKING:
    from coord import EventMap
    from coord.web.gateway import Gateway
    from coord.web.origins import Host

__all__ = ["JSON", "Answer", "Exchange", "Stream"]

Q = TypeVar("Q")
B = TypeVar("B")

JSON: Final = "application/json"


@dataclass(slots=True)
class Answer:
    """A whole answer."""

    status: int = 200
    body: bytes = b""
    content_type: str = JSON
    headers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, value: object, status: int = 200, *, headers: Mapping[str, str] | None = None) -> Self:
        """Return an answer whose body is a struct, or other JSON."""
        # A shell's prompt, or the next command's output, begins on a line of its own.
        return cls(status, encode(value) + b"\n", JSON, dict(headers or {}))


@dataclass(slots=True)
class Stream:
    """An answer that is written bit by bit.

    ``begin`` is called with the request of twisted.web, when its status and headers are set and nothing is written yet.
    Whoever gets it writes, and ends with ``finish()``, unless `Exchange.on_end` said that the client has gone.
    """

    content_type: str
    begin: Callable[[Any], None]
    headers: dict[str, str] = field(default_factory=dict)


class Headers(Protocol):
    """The headers of a request."""

    def get(self, name: str) -> str | None:
        """Return a header, by its name in lower case."""


class Exchange(Generic[Q, B]):
    """One request that may be answered: routed, allowed and decoded.

    ``query`` and ``body`` are the structs that the route names, ``path`` the arguments in the path, ``principal`` who
    makes it, ``client`` where it comes from, ``host`` the host that it is for, ``gateway`` what all requests share,
    and ``long`` whether it is a wait or a stream.
    """

    def __init__(
        self,
        gateway: Gateway,
        principal: Principal,
        path: Mapping[str, str],
        query: Q,
        body: B,
        *,
        method: str,
        head: Headers,
        client: Client,
        host: Host | None,
        long: bool,
    ) -> None:
        self.gateway = gateway
        self.principal = principal
        self.path = path
        self.query = query
        self.body = body
        self.method = method
        self.client = client
        self.host = host
        self.long = long
        self._head = head
        self._enders: list[Callable[[BaseException | None], None]] = []
        self._over = False

    @property
    def spender(self) -> str:
        """Whose rate it counts for."""
        return self.principal.spender(self.client.address)

    @property
    def map(self) -> str:
        """The name of the map in the path."""
        return self.path["map"]

    def events(self, *, slow: bool = False) -> EventMap:
        """Return the map in the path.

        :param slow: for listings, catch-ups and calls that want replicas, which go by a link of their own.
        """
        return self.gateway.events(self.map, slow=slow)

    def header(self, name: str) -> str | None:
        """Return a header of the request, by its name in lower case; of several, they are joined by commas."""
        return self._head.get(name)

    def may(self, verb: str, key: str, map_name: str | None = None) -> bool:
        """Whether the principal may do ``verb`` to a key, of the map in the path by default."""
        return self.principal.may(verb, map_name or self.map, key)

    def on_end(self, told: Callable[[BaseException | None], None]) -> None:
        """Have a function told, once, that the request is over.

        ``told`` is called with `None` when the answer is written or the client has hung up, and with a `Problem` when
        the token ends or the gateway stops: a stream then writes its end, and finishes.
        """
        self._enders.append(told)

    def end(self, why: BaseException | None) -> None:
        """Tell all that asked by `on_end`; later calls do nothing."""
        if self._over:
            return
        self._over = True
        for told in self._enders:
            told(why)
        self._enders.clear()
