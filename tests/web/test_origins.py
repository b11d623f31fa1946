"""The rules of hosts and origins, and where a request comes from."""

from __future__ import annotations

import pytest

from coord.web.addresses import client_of
from coord.web.config import Config
from coord.web.origins import Host, check_origin, host_of
from coord.web.problems import Problem

NAMES = ("coord.example.com",)
CORS = ("https://app.example.com",)


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        (["localhost"], None),
        (["LocalHost:8181"], None),
        (["x.localhost"], None),
        (["127.0.0.1:8181"], None),
        (["192.0.2.7"], None),
        (["[::1]:8181"], None),
        (["coord.example.com"], None),
        (["COORD.example.com.:80"], None),
        (["evil.example.com"], "wrong-host"),
        (["localhost.evil.com"], "wrong-host"),
        (["127.0.0.1.evil.com"], "wrong-host"),
        (["evil.com:8181"], "wrong-host"),
        ([], "invalid-request"),
        (["localhost", "evil.com"], "invalid-request"),
        ([""], "invalid-request"),
        (["localhost:x"], "invalid-request"),
        (["user@localhost"], "invalid-request"),
        (["localhost/path"], "invalid-request"),
    ],
)
def test_hosts(values: list[str], problem: str | None) -> None:
    """Addresses, loopback names and the gateway's own names pass; a name that points here by rebinding does not."""
    if problem is None:
        host_of(values, NAMES)
        return
    with pytest.raises(Problem) as caught:
        host_of(values, NAMES)
    assert caught.value.name == problem


HERE, APP, EVIL = "http://127.0.0.1:8181", "https://app.example.com", "https://evil.example.com"


@pytest.mark.parametrize(
    ("site", "origin", "passes", "foreign"),
    [
        (None, None, True, False),
        ("same-origin", HERE, True, False),
        ("none", None, True, False),
        ("same-site", HERE.replace("8181", "8182"), False, False),
        ("cross-site", EVIL, False, False),
        ("cross-site", None, False, False),
        ("cross-site", HERE, False, False),
        ("anything", None, False, False),
        (None, HERE, True, False),
        (None, HERE.replace("8181", "8182"), False, False),
        (None, EVIL, False, False),
        (None, "null", False, False),
        ("cross-site", APP, True, True),
        (None, APP, True, True),
        ("cross-site", "http://app.example.com", False, False),
        ("cross-site", APP + ".evil.com", False, False),
    ],
)
def test_origins(site: str | None, origin: str | None, passes: bool, foreign: bool) -> None:
    """A page of this gateway and what is no browser pass; others must be named, and their cookie does not count."""
    host = Host("127.0.0.1:8181")
    if passes:
        assert check_origin(site, origin, host, CORS) is foreign
        return
    with pytest.raises(Problem) as caught:
        check_origin(site, origin, host, CORS)
    assert caught.value.status == 403


PROXIES = Config(behind_proxy=("10.0.0.0/8", "unix:", "fd00::/8"))


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("192.0.2.1", [], "192.0.2.1"),
        ("192.0.2.1", ["127.0.0.1"], "192.0.2.1"),
        ("10.0.0.1", ["192.0.2.1"], "192.0.2.1"),
        ("10.0.0.1", ["127.0.0.1, 192.0.2.1"], "192.0.2.1"),
        ("10.0.0.1", ["127.0.0.1", "192.0.2.1"], "192.0.2.1"),
        ("10.0.0.1", ["192.0.2.1, 10.1.1.1"], "192.0.2.1"),
        ("10.0.0.1", ["nonsense"], "10.0.0.1"),
        ("10.0.0.1", ["192.0.2.1:4711"], "192.0.2.1"),
        ("10.0.0.1", ["[2001:db8::1]:4711"], "2001:db8::1"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("fd00::1", ["2001:db8::1"], "2001:db8::1"),
        ("::ffff:10.0.0.1", ["192.0.2.1"], "192.0.2.1"),
        ("::ffff:192.0.2.1", ["127.0.0.1"], "192.0.2.1"),
        ("::ffff:127.0.0.1", [], "127.0.0.1"),
        ("", ["192.0.2.1"], "192.0.2.1"),
    ],
)
def test_where_a_request_comes_from(peer: str, forwarded: list[str], address: str) -> None:
    """Addresses are read from the right, as far as the proxies are listed: what is left of these may be forged."""
    assert client_of(peer, forwarded, (), PROXIES).address == address


def test_https_is_what_a_listed_proxy_says() -> None:
    """Anybody else's word does not make a cookie secure."""
    assert client_of("10.0.0.1", (), ("https",), PROXIES).secure
    assert not client_of("192.0.2.1", (), ("https",), PROXIES).secure
    assert not client_of("10.0.0.1", (), ("http",), PROXIES).secure
    assert client_of("10.0.0.1", (), (), PROXIES).direct is False
    assert client_of("", (), (), Config()).direct
