"""The parser of URLs: what it takes, what it refuses, and what it never repeats."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import coord
from coord.core.slots import Address as ServerAddress
from coord.errors import InvalidURL
from coord.link.passwords import current
from coord.link.replies import NoServer
from coord.link.target import Target
from coord.link.urls import parse_target
from security.fuzz import counted, fuzzing

# Passwords as people and generators make them, with everything that means something in a URL.
_PASSWORD = st.text(st.sampled_from("aZ9:/?#[]@!$&'()*+,;=%~ \\\"{}|^`<>\té\u20ac\ud800.-_"), min_size=1, max_size=20)
_HOST = st.sampled_from(
    ["localhost", "127.0.0.1", "[::1]", "redis.example:6380", "h1:1,h2:2", "", "[::1", "h:x", "h:0"]
)
_SCHEME = st.sampled_from(
    [
        "redis",
        "rediss",
        "unix",
        "redis+sentinel",
        "rediss+sentinel",
        "redis+cluster",
        "rediss+cluster",
        "http",
        "",
        "REDIS",
    ]
)
_REST = st.sampled_from(
    ["", "/", "/0", "/main", "/main/3", "/x", "/run/s", "?db=1", "/main?sentinel_password=x", "?x", "#"]
)
_CANARY = "cAnArY"


def _shows(target: Target) -> str:
    return " ".join([target.shown, repr(target), str(target)])


@pytest.mark.parametrize(
    ("url", "shown", "username", "password", "database"),
    [
        ("redis://h", "redis://h", None, None, 0),
        ("redis://h:6380/3", "redis://h:6380/3", None, None, 3),
        ("redis://:secret@h", "redis://h", None, "secret", 0),
        ("redis://me:secret@h/1", "redis://h/1", "me", "secret", 1),
        ("redis://me@h", "redis://h", "me", None, 0),
        ("redis://me:a%40b%2Fc%3Fd%23e%25f%20g@h", "redis://h", "me", "a@b/c?d#e%f g", 0),
        ("redis://me:a@b@h", "redis://h", "me", "a@b", 0),
        ("redis://[::1]:7", "redis://[::1]:7", None, None, 0),
        ("rediss://h/2", "rediss://h/2", None, None, 2),
        ("unix:///run/r.sock?db=4", "unix:///run/r.sock", None, None, 4),
        ("unix:///run/a@b.sock", "unix:///run/a@b.sock", None, None, 0),
        ("unix://me:secret@/run/r.sock", "unix:///run/r.sock", "me", "secret", 0),
        ("redis+sentinel://h1,h2:7,[::1]/main/5", "redis+sentinel://h1,h2:7,[::1]/main/5", None, None, 5),
        ("redis+sentinel://me:secret@h1/main?sentinel_password=p", "redis+sentinel://h1/main", "me", "secret", 0),
        ("redis+cluster://h1,h2:6380,[::1]/", "redis+cluster://h1,h2:6380,[::1]", None, None, 0),
        ("rediss+cluster://me:secret@h1/0", "rediss+cluster://h1", "me", "secret", 0),
    ],
)
def test_what_urls_mean(url: str, shown: str, username: str | None, password: str | None, database: int) -> None:
    """Each form gives the name that is shown, who we are and the database; no secret is in what is shown."""
    target = parse_target(url)
    assert (target.shown, target.username, target.password, target.database) == (shown, username, password, database)
    assert "secret" not in _shows(target)


def _always(found: object, _: object) -> object:
    return found


def test_a_cluster_is_its_servers() -> None:
    """Any of its servers will do to begin with; it is told where those are reached that announce another address."""
    cluster = parse_target("redis+cluster://h1,h2:6380?pubsub=classic").cluster
    assert cluster is not None
    assert (cluster.seeds, cluster.classic, cluster.tls) == ((("h1", 6379), ("h2", 6380)), True, None)
    assert cluster.remap(ServerAddress("a", 1)) == ("a", 1)
    cluster = parse_target("rediss+cluster://h", remap=lambda address: ("nat", address[1] + 1)).cluster
    assert cluster is not None
    assert cluster.tls is not None
    assert cluster.remap(ServerAddress("a", 1)) == ("nat", 2)
    assert parse_target("redis://h").cluster is None
    for wrong in (None, 7, "h:1", ("h",), ("h", "1")):
        returns_it: Any = partial(_always, wrong)
        cluster = parse_target("redis+cluster://h", remap=returns_it).cluster
        assert cluster is not None
        with pytest.raises(NoServer, match=r"remap: returned .* for a:1, and no host and port"):
            cluster.remap(ServerAddress("a", 1))


@pytest.mark.parametrize(
    ("url", "options", "said"),
    [
        ("redis+cluster://h/3", {}, "redis+cluster://h: a cluster has one database, 0"),
        ("redis+cluster://h", {"database": 3}, "redis+cluster://h: a cluster has one database, 0"),
        ("redis+cluster://h?pubsub=sharded", {}, "pubsub can only be 'classic'"),
        ("redis+cluster://h?ca=x", {}, "ca, cert and key belong to rediss+cluster://"),
        ("redis+cluster://h1,,h2", {}, "redis+cluster://...: no host"),
        ("redis://h1:1,h2:2", {}, "several hosts belong to redis+cluster:// or redis+sentinel://"),
        ("redis+cluster://h", {"sentinel_password": "x"}, "sentinel_password: belongs to redis+sentinel://"),
        ("redis+cluster://h", {"remap": 7}, "remap: a function of (host, port), not int"),
        ("redis://h", {"remap": lambda address: address}, "remap: belongs to redis+cluster://"),
    ],
)
def test_what_a_clusters_url_cannot_mean(url: str, options: dict[str, Any], said: str) -> None:
    """Each error says what belongs where, before anything is sent."""
    with pytest.raises(InvalidURL) as refused:
        parse_target(url, **options)
    assert said in str(refused.value)


def test_keywords_overrule_the_url() -> None:
    """Name, password and database given apart win over those in the URL."""
    target = parse_target("redis://a:b@h/1", username="c", password="d", database=2)
    assert (target.username, target.password, target.database) == ("c", "d", 2)


@pytest.mark.parametrize(
    "url",
    [
        # What people forget to escape, and what they forget altogether.
        "redis://:cAn/ArY@h",
        "redis://:cAn?ArY@h",
        "redis://:cAn#ArY@h",
        "redis://:12/cAnArY@h",
        "redis://me:cAn@A/rY@h",
        "redis://me:cAn?A=rY@h",
        "redis://:cAnArY",
        "redis://me:cAnArY",
        "redis://:cAnArY@",
        "redis://:cAnArY@h/cAnArY@h",
        "redis://:cAnArY @h",
        "redis://:cAnArY\t@h",
        "redis://:cAnArY%ff@h",
        "redis://:cAnArY\ud800@h",
        "redis://:cAnArY@h:port",
        "redis://:cAnArY@[h",
        "redis://:cAnArY@h?cAnArY",
        "redis://h?cAnArY=@",
        "cAnArY",
        ":cAnArY@h",
        "//:cAnArY@h",
        "http://:cAnArY@h",
        "unix://:cAnArY/run/s",
        "unix://:cAn/ArY@/run/s",
        "unix://:cAnArY@h/run/s",
        "redis+sentinel://:cAn/ArY@h/main",
        "redis+sentinel://:cAnArY@h",
        "redis+sentinel://h,me:cAnArY/main",
        "redis+sentinel://h/main?sentinel_password=cAnArY&x=1",
        "redis+sentinel://h/main?sentinel_password=cAnArY#",
        "rediss://:cAnArY@h?ca=/nowhere",
    ],
)
def test_a_wrong_url_is_refused_without_its_secret(url: str) -> None:
    """Whatever is wrong with it, no part of the password is in the error or its causes."""
    with pytest.raises(InvalidURL) as raised:
        coord.connect(url)
    _no_canary(raised.value)


def _no_canary(error: BaseException) -> None:
    for text in (str(error), repr(error), repr(error.args), repr(error.__cause__)):
        for part in ("cAn", "ArY", "A/r", "A=r"):
            assert part not in text, text


@pytest.mark.parametrize("name", ["username", "password"])
def test_a_name_or_password_apart_from_the_url(name: str) -> None:
    """What cannot be sent is refused at the call, and not repeated."""
    bad: Any
    for bad in ("cAnArY\ud800", b"cAnArY", 7):
        with pytest.raises(InvalidURL) as raised:
            coord.connect("redis://h", **{name: bad})
        _no_canary(raised.value)


@given(_SCHEME, _PASSWORD, _HOST, _REST)
@example("redis", ":/@", "h", "")
@fuzzing
def test_fuzz_urls_with_passwords(scheme: str, password: str, host: str, rest: str) -> None:
    """A URL with any password raises `InvalidURL` or is understood; neither way the password is shown."""
    secret = f"{_CANARY}{password}{_CANARY}"
    with counted("URLs"):
        assert _CANARY not in _said_of(f"{scheme}://me:{secret}@{host}{rest}")


def _said_of(url: str) -> str:
    """Return all that is shown of a URL: of what it means, or of why it is refused."""
    try:
        return _shows(parse_target(url))
    except InvalidURL as error:
        return f"{error} {error!r} {error.__cause__!r}"


@given(st.text(max_size=60) | st.from_regex(r"(redis|rediss|unix|redis\+sentinel)://[^ ]{0,40}", fullmatch=True))
@fuzzing
def test_fuzz_any_text(text: str) -> None:
    """Any text is a URL or raises `InvalidURL`, nothing else."""
    with counted("texts as URLs"):
        try:
            target = parse_target(text)
        except InvalidURL:
            return
        assert 0 <= target.database < 2**31
        (current(target.password) or "").encode()
        (target.username or "").encode()


@given(st.none() | st.integers() | st.binary() | st.lists(st.text()) | st.floats())
@fuzzing
def test_fuzz_what_is_no_text(value: object) -> None:
    """What is no text is refused as an address, and as a database."""
    with counted("objects as URLs"):
        with pytest.raises(InvalidURL):
            parse_target(value)  # type: ignore[arg-type]
        if not isinstance(value, int) and value is not None:
            with pytest.raises(InvalidURL):
                parse_target("redis://h", database=value)  # type: ignore[arg-type]
