"""docs/http.md names every route, parameter and problem, and none that is not there."""

from __future__ import annotations

import re
from pathlib import Path

from msgspec.structs import fields

from coord.web.problems import PROBLEMS
from coord.web.table import TABLE

PAGE = (Path(__file__).parents[2] / "docs" / "http.md").read_text(encoding="utf-8")
# What the page calls a segment that is an argument.
ARGUMENTS = {"{map}": "M", "{lease}": "L", "{name}": "NAME"}


def _routes() -> dict[tuple[str, str], str]:
    """Return the text about each route of the page, by its method and its path."""
    found = {}
    for methods, paths, text in re.findall(r"^\| ([A-Z, ]+) (`/.*?`(?:, `/.*?`)*) \| (.*) \|$", PAGE, re.MULTILINE):
        for path in re.findall("`(.*?)`", paths):
            for method in methods.split(", "):
                found[method, path] = text
    return found


def test_every_route_is_named() -> None:
    """With its parameters, but for those of a wait, which have a table of their own."""
    routes = _routes()
    table = {}
    for route in TABLE:
        path = route.template.removeprefix("/v1")
        for argument, shown in ARGUMENTS.items():
            path = path.replace(argument, shown)
        if path != "/" and not path.startswith("/page/"):
            table[route.method, path] = route
    assert {*routes} == {*table}
    for which, route in table.items():
        for field in fields(route.query):
            about = PAGE if which[1].endswith("/wait") else routes[which]
            assert f"`{field.encode_name}" in about, (which, field.name)


def test_every_problem_is_named() -> None:
    """With its status, and an anchor, which the site leads its type to."""
    rows = re.findall(r"^\| (<span .*) \| (\d+) \|", PAGE, re.MULTILINE)
    named = {name: int(status) for names, status in rows for name in re.findall('id="([a-z-]+)"', names)}
    assert named == {name: kind.status for name, kind in PROBLEMS.items()}
