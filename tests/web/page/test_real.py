"""The page on a real gateway and a real server, with a token."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("prometheus_client", reason="prometheus_client is not installed (extra web)")

from cli.conftest import shared_server as shared_server
from cli.processes import RedisServer
from coord.web.tokens import digest_of, make_token
from web.page.browser import Browser, Tab
from web.page.test_resume import LIVE, Gateway

TOKEN = make_token()
SETTINGS = f"""
anonymous = []

[[token]]
name = "oncall"
sha256 = "{digest_of(TOKEN)}"
rights = ["read:*", "write:*", "lock:*", "hold:*", "count:*", "join:*", "evict:*"]
"""


@pytest.fixture
def gateway(shared_server: RedisServer, tmp_path: Path) -> Iterator[Gateway]:
    """Give a gateway that wants a token, in a namespace of its own."""
    config = tmp_path / "web.toml"
    config.write_text(SETTINGS)
    gateway = Gateway(shared_server.url, config, namespace="page")
    yield gateway
    gateway.kill()


def ask(gateway: Gateway, method: str, path: str, body: object = None) -> Any:
    """Make a request with the token."""
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{gateway.url}v1/{path}", data, headers, method=method)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.loads(answer.read() or b"null")


def test_a_token_opens_the_page_and_a_log_out_closes_it_in_all_tabs(browser: Browser, gateway: Gateway) -> None:
    """With a token Now tells what is wrong, a button fires what a node waits for, and logging out ends every tab."""
    one, two = "a" * 20, "b" * 20
    ask(gateway, "POST", "maps/deploy/fail?key=backup", "disk full")
    ask(gateway, "POST", "maps/build/count?key=shards&by=3&goal=8&who=ci")
    ask(gateway, "PUT", f"maps/jobs/lock?key=nightly&lease={one}")
    ask(gateway, "PUT", f"maps/jobs/hold?key=db&lease={one}", "10.0.0.7")
    ask(gateway, "PUT", f"members/web7?lease={one}", {"zone": "eu"})
    with pytest.raises(urllib.error.HTTPError, match="408"):
        ask(gateway, "PUT", f"maps/jobs/lock?key=nightly&lease={two}&wait=1")
    tab = browser.open(gateway.url)
    tab.wait("document.querySelector('#sign-in[open]')")
    tab.type(TOKEN)
    tab.press("Enter", 13, "\r")
    tab.wait(f"{LIVE} && document.querySelector('.trouble')")
    tab.wait("document.querySelector('main').innerText.includes('Locks with a queue')")
    assert TOKEN not in tab.value("document.cookie + JSON.stringify(localStorage) + location.href")
    look_around(tab)
    fire(tab, "#/key/deploy?key=ready", "v2")
    assert ask(gateway, "GET", "maps/deploy/record?key=ready")["value"] == "v2"
    another = browser.open(f"{gateway.url}#/members")
    another.wait("document.querySelector('main').innerText.includes('web7')")
    tab.go("#/access")
    tab.click("main button")
    for each in (tab, another):
        each.wait("document.querySelector('#sign-in[open]')")
        assert "web7" not in each.text()
        assert each.errors == []
        each.close()


def look_around(tab: Tab) -> None:
    """Look at what the real gateway says on the other screens."""
    for place, words in {
        "#/now": ("disk full", "behind", "connected"),
        "#/maps": ("build", "deploy", "jobs"),
        "#/map/jobs": ("locked", "held", "10.0.0.7"),
        "#/key/jobs?key=nightly": ("Owner and queue", "Token", "Evict"),
        "#/key/build?key=shards": ("3 of 8", "counted"),
        "#/key/deploy?key=backup": ("disk full", "History", "failed"),
        "#/members": ("web7", "alive"),
        "#/access": ("oncall", "end the holds of others"),
    }.items():
        tab.go(place)
        for word in words:
            tab.wait(f"document.querySelector('main').innerText.includes({json.dumps(word)})")


def fire(tab: Tab, place: str, value: str) -> None:
    """Fire a key by the dialog."""
    tab.go(place)
    tab.click(".allow input")
    tab.click(".buttons button:not(:disabled)")
    tab.wait("document.querySelector('dialog[open]')")
    tab.value("document.querySelector('dialog textarea').select()")
    tab.type(value)
    tab.click("dialog .actions .main:not(:disabled)")
    tab.wait("!document.querySelector('dialog')")
    tab.wait(f"document.querySelector('.json')?.innerText.includes({json.dumps(value)})")
