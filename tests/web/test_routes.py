"""How the route of a path is found."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coord.web.exchange import Answer
from coord.web.problems import Problem
from coord.web.routes import Route, Router
from coord.web.table import TABLE


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


PARTS = [
    b"v1", b"%761", b"v%31", b"v1%2F", b"m%61ps", b"m", b"%6d", b"%256d", b"a%2Fb", b"m%00", b".", b"%2e%2e", b"", b"%",
    b"%zz", b"\xff", b"%ff", b"%C3%A9", b"@members", b"%40members", b"%72ecord", b"fire",
    b"record;x", b"RECORD", b"M", b"Maps%2e",
]  # fmt: skip


@st.composite
def paths(draw: st.DrawFn) -> bytes:
    """Return the path of a route; any part of it may be another, too."""
    template = draw(st.sampled_from(TABLE)).template.encode().split(b"/")[1:]
    parts = [draw(st.sampled_from(PARTS)) if part.startswith(b"{") else part for part in template]
    if draw(st.booleans()):
        parts[draw(st.integers(0, len(parts) - 1))] = draw(st.sampled_from(PARTS))
    return b"/" + b"/".join(parts)


def found(router: Router, method: str, path: bytes) -> object:
    """Return the route and the arguments, which are those in the path; or the problem."""
    try:
        route, arguments = router.find(method, path)
    except Problem as problem:
        return problem.name, problem.headers
    parts = zip(route.template.split("/"), path.split(b"/"), strict=True)
    assert arguments == {name[1:-1]: unquote_to_bytes(part).decode() for name, part in parts if name.startswith("{")}
    return route, dict(arguments)


@settings(deadline=None)
@given(st.lists(paths(), max_size=10), st.integers(0, 300))
def test_what_is_kept_of_a_path_is_of_that_alone(asked: list[bytes], others: int) -> None:
    """Whatever was asked for before, and however it is escaped, a router finds what a new one does."""
    router = Router(TABLE)
    for _ in range(2):
        for path in (way for each in asked for way in (each, unquote_to_bytes(each), each.lower())):
            new = Router(TABLE)
            for method in ("GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "get"):
                assert found(router, method, path) == found(new, method, path)
        for number in range(others):
            found(router, "GET", b"/v1/maps/%d/record" % number)


def test_a_table_that_contradicts_itself_is_refused() -> None:
    """There are no two routes of one path and method, whatever the arguments are called."""
    with pytest.raises(ValueError, match="two routes"):
        Router([route("GET", "/{a}"), route("GET", "/{b}")])
