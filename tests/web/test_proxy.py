"""A gateway behind nginx, as docs/web.md says to set it up."""

from __future__ import annotations

import json
import re
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

from cli.processes import PATIENCE, RedisServer
from coord.web.tokens import digest_of, make_token
from web.conftest import Process
from web.nginx import needs_nginx, nginx

PAGE = (Path(__file__).parents[2] / "docs" / "web.md").read_text(encoding="utf-8")
(LOCATION,) = re.findall("```text nginx\n(.*?)```", PAGE, re.DOTALL)


def ask(url: str, method: str, target: str, body: str = "", **headers: str) -> tuple[int, dict[str, str], bytes]:
    """Return status, headers and body of an answer."""
    connection = HTTPConnection(urlsplit(url).netloc, timeout=PATIENCE)
    connection.request(method, target, body or None, {name.replace("_", "-"): text for name, text in headers.items()})
    answer = connection.getresponse()
    found = answer.status, dict(answer.getheaders()), answer.read()
    connection.close()
    return found


@needs_nginx
def test_the_settings_for_nginx(shared_server: RedisServer, tmp_path: Path) -> None:
    """Through the proxy nobody is on this machine, a page is of the origin it names, and its cookie is secure."""
    secret = make_token()
    settings = tmp_path / "web.toml"
    settings.write_text(
        f"""
        hosts = ["coord.example.com"]
        behind_proxy = ["127.0.0.1"]
        [[token]]
        name = "ci"
        sha256 = "{digest_of(secret)}"
        rights = ["read:*", "write:*"]
        """
    )
    gateway = Process(shared_server.url, settings, log=True)
    location = LOCATION.replace("http://127.0.0.1:8181", "URL").replace("$scheme", "https")
    # nginx adds the address of its own client to what that claims.
    outside = location.replace("$proxy_add_x_forwarded_for", '"127.0.0.1, 192.0.2.7"')
    assert "proxy_pass URL;" in location
    here = {"Host": "coord.example.com"}
    try:
        with nginx(tmp_path, gateway.url, location=outside) as url:
            assert ask(url, "GET", "/v1/status", **here)[0] == 401
            assert ask(url, "GET", "/v1/me", Host="evil.example.com")[0] == 421
            fired = ask(url, "POST", "/v1/maps/proxied/fire?key=/a//b", "7", Authorization=f"Bearer {secret}", **here)
            assert (fired[0], json.loads(fired[2])["record"]["key"]) == (200, "/a//b")
            token = json.dumps({"token": secret})
            login = ask(url, "POST", "/v1/session", token, Origin="https://coord.example.com", **here)
            assert login[0] == 204
            assert login[1]["Set-Cookie"].startswith("__Host-coord-443=")
            cookie = login[1]["Set-Cookie"].partition(";")[0]
            assert json.loads(ask(url, "GET", "/v1/me", Cookie=cookie, **here)[2])["name"] == "ci"
            assert ask(url, "POST", "/v1/session", "{}", Origin="https://evil.example.com", **here)[0] == 403
        (tmp_path / "inside").mkdir()
        with nginx(tmp_path / "inside", gateway.url, location=location) as url:
            assert ask(url, "GET", "/v1/status", **here)[0] == 200, "a client on this machine may read"
    finally:
        gateway.end()
