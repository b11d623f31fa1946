"""How the route of a path is found."""

from __future__ import annotations

from typing import Any

import pytest

from coord.web.exchange import Answer
from coord.web.problems import Problem
from coord.web.routes import Route, Router


async def answer(_: Any) -> Answer:
    """Answer."""
    return Answer()


def route(method: str, template: str) -> Route[Any, Any]:
    """Return a route."""
    return Route(method, template, answer)


ROUTER = Router(
    [
        route("GET", "/"),
        route("GET", "/maps/{map}/record"),
        route("POST", "/maps/{map}/fire"),
        route("GET", "/maps/{map}/leases/{lease}"),
        route("PUT", "/maps/{map}/leases/{lease}"),
        route("GET", "/maps/all/record"),
        route("GET", "/maps/all"),
        route("GET", "/page/{file}"),
        route("GET", "/page/{folder}/{file}"),
    ]
)


@pytest.mark.parametrize(
    ("method", "path", "template", "arguments"),
    [
        ("GET", "/", "/", {}),
        ("HEAD", "/", "/", {}),
        ("GET", "/maps/m/record", "/maps/{map}/record", {"map": "m"}),
        ("POST", "/maps/record/fire", "/maps/{map}/fire", {"map": "record"}),
        ("PUT", "/maps/m/leases/record", "/maps/{map}/leases/{lease}", {"map": "m", "lease": "record"}),
        ("GET", "/page/a", "/page/{file}", {"file": "a"}),
        ("GET", "/page/a/b", "/page/{folder}/{file}", {"folder": "a", "file": "b"}),
        # A word goes before an argument, and does not hide it.
        ("GET", "/maps/all/record", "/maps/all/record", {}),
        ("POST", "/maps/all/fire", "/maps/{map}/fire", {"map": "all"}),
    ],
)
def test_a_path_has_a_route(method: str, path: str, template: str, arguments: dict[str, str]) -> None:
    """Words have to be equal, and arguments may be anything."""
    found = ROUTER.find(method, path.encode())
    assert (found.route.template, found.arguments) == (template, arguments)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "", None),
        ("GET", "//", None),
        ("GET", "/maps", None),
        ("GET", "/maps/m", None),
        ("GET", "/maps/m/record/", None),
        ("GET", "/maps/m/leases/l/x", None),
        ("POST", "/maps/m/record", "GET, HEAD, OPTIONS"),
        ("HEAD", "/maps/m/fire", "POST, OPTIONS"),
        ("DELETE", "/maps/m/leases/l", "GET, HEAD, PUT, OPTIONS"),
    ],
)
def test_a_path_has_none(method: str, path: str, allowed: str | None) -> None:
    """What is not there is 404; another method is 405, and says which there are."""
    with pytest.raises(Problem) as caught:
        ROUTER.find(method, path.encode())
    assert caught.value.headers.get("Allow") == allowed
    assert caught.value.status == (404 if allowed is None else 405)


def test_a_table_that_contradicts_itself_is_refused() -> None:
    """There are no two routes of one path and method, whatever the arguments are called."""
    with pytest.raises(ValueError, match="two routes"):
        Router([route("GET", "/{a}"), route("GET", "/{b}")])
