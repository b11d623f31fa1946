"""The stand-in says nothing that the gateway would not say."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

import msgspec
import pytest

from coord.web import bodies
from coord.web.sessions import Me
from coord.web.status import Maps, Members, Status
from web.page.browser import Loop
from web.page.scenes import trouble
from web.page.standin import StandIn

ANSWERS: list[tuple[str, type[Any]]] = [
    ("me", Me),
    ("status", Status),
    ("maps", Maps),
    ("members", Members),
    ("maps/deploy/records", bodies.Page),
    ("maps/locks/record?key=nightly&holders=true", bodies.RecordAndHolders),
    ("maps/build/record?key=shards", bodies.RecordAndHolders),
    ("maps/locks/record?key=never", bodies.RecordAndHolders),
    ("maps/locks/holders?key=nightly", bodies.Holders),
    ("maps/mount/subscribers?key=a", bodies.Subscribers),
    ("maps/mount/waiting", bodies.Waiting),
]


@pytest.mark.parametrize(("path", "body"), ANSWERS)
def test_an_answer_has_the_gateways_form(site: StandIn, loop: Loop, path: str, body: type[Any]) -> None:
    """Each answer is one that the gateway's own struct takes, without a member that it does not know."""

    async def fill() -> None:
        trouble(site)

    loop.run(fill())
    with urllib.request.urlopen(f"{site.url}v1/{path}", timeout=10) as answer:
        said = json.load(answer)
    known = msgspec.to_builtins(msgspec.convert(said, body))
    assert said.keys() <= known.keys()
