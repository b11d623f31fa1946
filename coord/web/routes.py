"""Routes: what one is, and how the route of a request is found. The table of all is in ``table.py``."""

from __future__ import annotations

import typing
from collections.abc import Callable, Coroutine, Iterable, Mapping
from functools import lru_cache
from typing import Any, Final, Generic, NamedTuple, TypeVar
from urllib.parse import unquote_to_bytes

from msgspec import Struct, ValidationError, convert
from msgspec.structs import fields

from coord.core.values import Json
from coord.web.exchange import JSON, Answer, Exchange, Stream
from coord.web.problems import Problem

__all__ = ["SPECIAL", "Found", "NoQuery", "Route", "Router", "Value"]

Q = TypeVar("Q", bound=Struct)
B = TypeVar("B")

_MOST_KEPT: Final = 256
"""Paths; each has 16 KiB at most."""

SPECIAL: Final = ("if-match", "if-none-match", "idempotency-key", "last-event-id")
"""The headers that a route has to know: to skip one would do what was not asked for."""


class NoQuery(Struct, forbid_unknown_fields=True):
    """No parameters."""


class Value(Struct):
    """A body that is a value as a whole: JSON, or a string if it is ``text/plain``. No body is ``true``."""

    value: Json = True


class Route(Generic[Q, B]):
    """One method of one resource.

    :param template: the path, with ``{name}`` for a segment that is an argument. ``{map}`` is the name of a map.
    :param handler: is called with the `Exchange`; what it raises is answered as a problem. It is cancelled if the
        client hangs up, its token ends or the gateway stops.
    :param query: a struct that forbids unknown fields, one for each parameter. A field of a tuple takes a parameter
        many times. From this struct the document is made, too.
    :param body: a struct, or `Value`; `None` if there is none.
    :param verb: the right that is asked for: on each ``key`` of the query, or if there is none, on any key of the map.
        With `None` the handler asks.
    :param answer: the struct of a 200, for the document.
    :param problems: the names of its own problems, for the document.
    :param headers: the conditional and other special headers it knows, in lower case; those it does not know are
        refused: ``if-match``, ``if-none-match``, ``idempotency-key``, ``last-event-id``.
    :param call: whether it changes something: then a problem says whether it was ``applied``.
    :param open: whether it asks neither for a token nor for the host's name.
    :param public: whether it may be asked without any rights.
    :param free: whether ten times the rate is free for it: a renewal that is refused would cost a lock.
    :param long: whether an answer may take as long as the client wishes: a wait or a stream. It is ended when the
        gateway stops, and left out of the metrics of durations.
    :param success: its status when all is well, and ``produces`` the content types of that, for the document.
    """

    def __init__(
        self,
        method: str,
        template: str,
        handler: Callable[[Exchange[Q, B]], Coroutine[Any, Any, Answer | Stream]],
        query: type[Q] = NoQuery,  # type: ignore[assignment]
        body: type[B] | None = None,
        *,
        verb: str | None = None,
        answer: object = None,
        problems: tuple[str, ...] = (),
        headers: tuple[str, ...] = (),
        call: bool = False,
        open: bool = False,  # noqa: A002
        public: bool = False,
        free: bool = False,
        long: bool = False,
        success: int = 200,
        produces: tuple[str, ...] = (JSON,),
        summary: str = "",
    ) -> None:
        self.method = method
        self.template = template
        self.handler = handler
        self.query = query
        self.body = body
        self.verb = verb
        self.answer = answer
        self.problems = problems
        self.headers = headers
        self.call = call
        self.open = open
        self.public = public
        self.free = free
        self.long = long
        self.success = success
        self.produces = produces
        self.summary = summary
        self.arguments = tuple(part[1:-1] for part in template.split("/") if part.startswith("{"))
        """The names of the arguments in the path."""
        self.many = frozenset(field.encode_name for field in fields(query) if _is_tuple(field.type))
        """The parameters that may be given many times."""
        self.nullable = frozenset(field.encode_name for field in fields(query) if _takes_null(field.type))
        """The parameters for which msgspec would take the text ``null`` as none."""

    def __repr__(self) -> str:
        return f"<Route {self.method} {self.template}>"


class Found(NamedTuple):
    """The route of a request, and the arguments in its path."""

    route: Route[Any, Any]
    arguments: Mapping[str, str]


class _Node:
    """A segment of paths: what may follow it, and its methods if a path ends here. A word goes before an argument."""

    __slots__ = ("argument", "methods", "words")

    def __init__(self) -> None:
        self.words: dict[str, _Node] = {}
        self.argument: _Node | None = None
        self.methods: dict[str, Route[Any, Any]] = {}

    def child(self, part: str) -> _Node:
        """Return the node of the next part of a template; it is made if it is not there."""
        if not part.startswith("{"):
            return self.words.setdefault(part, _Node())
        if self.argument is None:
            self.argument = _Node()
        return self.argument


class Router:
    """Finds routes; ``routes`` are all of them."""

    def __init__(self, routes: Iterable[Route[Any, Any]]) -> None:
        self.routes = tuple(routes)
        self._root = _Node()
        # Clients ask for the same few paths again and again: a path takes 0.2 us then, and 7 the first time.
        self._places = lru_cache(_MOST_KEPT)(self._place)
        for route in self.routes:
            node = self._root
            for part in route.template.split("/"):
                node = node.child(part)
            if route.method in node.methods:
                raise ValueError(f"two routes {route.method} {route.template}")
            node.methods[route.method] = route
        self._add_head(self._root)

    def _add_head(self, node: _Node) -> None:
        if "GET" in node.methods:
            node.methods.setdefault("HEAD", node.methods["GET"])
        for child in (*node.words.values(), *([node.argument] if node.argument else [])):
            self._add_head(child)

    def find(self, method: str, path: bytes) -> Found:
        """Return the route of a path; raise the `Problem` 400, 404 or 405."""
        place = self._places(path)
        found = place.get(method)
        if found is not None:
            return found
        if not place:
            raise Problem("not-found", "no such route; see /openapi.json")
        allowed = ", ".join((*sorted(place), "OPTIONS"))
        raise Problem("method", f"this takes {allowed}", headers={"Allow": allowed})

    def _place(self, path: bytes) -> dict[str, Found]:
        """Return the route of each method that a path takes."""
        values: list[str] = []
        methods = _methods(self._root, _segments(path), 0, values)
        return {
            method: Found(route, dict(zip(route.arguments, values, strict=True))) for method, route in methods.items()
        }


def _segments(path: bytes) -> list[str]:
    """Return the segments of a path, unescaped; raise the `Problem` 400."""
    try:
        return [unquote_to_bytes(each).decode() for each in path.split(b"/")]
    except UnicodeDecodeError:
        raise Problem("invalid-request", "the path is not UTF-8") from None


def _methods(node: _Node, segments: list[str], at: int, values: list[str]) -> dict[str, Route[Any, Any]]:
    """Return the methods of a path from a segment on, and add its arguments; empty if there is no such path."""
    if at == len(segments):
        return node.methods
    word = node.words.get(segments[at])
    if word is not None and (methods := _methods(word, segments, at + 1, values)):
        return methods
    if node.argument is None:
        return {}
    values.append(segments[at])
    if methods := _methods(node.argument, segments, at + 1, values):
        return methods
    values.pop()
    return {}


def _takes_null(kind: object) -> bool:
    try:
        return convert("null", kind, strict=False) is None
    except ValidationError:
        return False


def _is_tuple(kind: object) -> bool:
    if typing.get_origin(kind) is typing.Annotated:
        kind = typing.get_args(kind)[0]
    return typing.get_origin(kind) is tuple
