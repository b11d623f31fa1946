"""Tokens, and the cookies that stand for them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from coord import InvalidInput
from coord.web.config import Config, Token
from coord.web.problems import Problem
from coord.web.tokens import SESSION, Tokens, cookie_name, digest_of, make_token, read_key

NOW = 1_700_000_000.0
SECRET, OTHER = make_token(), make_token()
KEY = b"k" * 32


def tokens(*given: Token, key: bytes = KEY, now: float = NOW) -> Tokens:
    """Return the tokens of a gateway."""
    return Tokens(Config(tokens=given), key, lambda: now)


def token(name: str = "ci", *secrets: str, expires: float | None = None) -> Token:
    """Return a token."""
    at = None if expires is None else datetime.fromtimestamp(expires, UTC)
    digests = tuple(map(digest_of, secrets or (SECRET,)))
    return Token(name=name, sha256=digests, rights=("read:*",), expires=at)


def refused(tokens: Tokens, header: str) -> str:
    """Return why a header is refused."""
    with pytest.raises(Problem) as caught:
        tokens.of_header(header)
    assert caught.value.status == 401
    assert caught.value.headers["WWW-Authenticate"] == "Bearer"
    return caught.value.detail


def test_a_token_is_looked_up_by_its_digest() -> None:
    """It is known in both of its texts while it is changed, and no other is."""
    known = tokens(token("ci", SECRET, OTHER))
    assert known.of_header(f"Bearer {SECRET}").name == "ci"
    assert known.of_header(f"bearer  {OTHER}").name == "ci"
    assert "not known" in refused(known, f"Bearer {SECRET}x")
    for header in ("", "Basic Y2k6", f"Bearer {SECRET} x", "Bearer", SECRET):
        assert "Bearer TOKEN" in refused(known, header)


def test_a_token_ends_at_its_time() -> None:
    """It is good until then, and not from then on."""
    assert tokens(token(expires=NOW + 1)).of_token(SECRET).expires == NOW + 1
    assert "expired" in refused(tokens(token(expires=NOW)), f"Bearer {SECRET}")
    assert tokens(token(expires=NOW)).of_digest(digest_of(SECRET)) is None


def test_a_cookie_is_good_at_each_gateway_with_the_key() -> None:
    """It survives a restart; under another key, or changed in any letter, it is nothing."""
    value, seconds = tokens(token()).cookie(SECRET)
    assert seconds == SESSION
    principal = tokens(token()).of_cookie(value)
    assert principal is not None
    assert (principal.name, principal.expires) == ("ci", NOW + SESSION)
    assert principal.session
    assert tokens(token(), key=b"x" * 32).of_cookie(value) is None
    for at in range(len(value)):
        changed = value[:at] + ("0" if value[at] != "0" else "1") + value[at + 1 :]
        assert tokens(token(), token("root", OTHER)).of_cookie(changed) is None, changed
    assert SECRET not in value
    assert digest_of(SECRET) not in value


def test_a_cookie_ends_with_its_time_and_with_its_token() -> None:
    """It ends after 12 hours, and when its token expires, goes, or gets another text."""
    value, _ = tokens(token()).cookie(SECRET)
    assert tokens(token(), now=NOW + SESSION - 1).of_cookie(value) is not None
    assert tokens(token(), now=NOW + SESSION).of_cookie(value) is None
    assert tokens().of_cookie(value) is None
    assert tokens(token("ci", OTHER)).of_cookie(value) is None
    assert tokens(token("ci", OTHER, SECRET)).of_cookie(value) is not None
    assert tokens(token("other", SECRET)).of_cookie(value) is None
    short, seconds = tokens(token(expires=NOW + 60)).cookie(SECRET)
    assert seconds == 60
    assert tokens(token(expires=NOW + 60), now=NOW + 60).of_cookie(short) is None


def test_cookies_of_two_gateways_of_a_host_have_two_names() -> None:
    """Cookies know no ports; under https no other site of the domain can set ours."""
    assert cookie_name("8181", secure=False) == "coord-8181"
    assert cookie_name("", secure=False) == "coord-80"
    assert cookie_name("", secure=True) == "__Host-coord-443"


def test_the_key_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    """It is the same at each start; a file that others may read is refused."""
    path = tmp_path / "state" / "web.key"
    key = read_key(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_key(path) == key
    path.chmod(0o640)
    with pytest.raises(InvalidInput, match="others may read"):
        read_key(path)
    path.chmod(0o600)
    path.write_text("short")
    with pytest.raises(InvalidInput, match="less than 64 characters"):
        read_key(path)
    path.write_bytes(b"\xff" * 64)
    with pytest.raises(InvalidInput, match="not ASCII"):
        read_key(path)
    with pytest.raises(InvalidInput, match="cookie_key"):
        read_key(tmp_path / "state")
