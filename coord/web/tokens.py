"""Tokens and cookies: what says who makes a request. Pure but for the file of the key."""

from __future__ import annotations

import hmac
import os
import re
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from math import inf
from pathlib import Path
from typing import Final

from coord.errors import InvalidInput
from coord.web.config import Config, Token, by_digest
from coord.web.problems import Problem
from coord.web.rights import Principal, Rights

__all__ = ["SESSION", "Tokens", "cookie_name", "digest_of", "make_token", "read_key"]

SESSION: Final = 12 * 3600
"""Seconds that a cookie lasts at most."""

_BEARER: Final = re.compile(r"bearer +([A-Za-z0-9._~+/=-]+)", re.IGNORECASE)
_COOKIE: Final = re.compile(r"1\.([0-9]{1,12})\.([0-9a-f]{64})\.([A-Za-z0-9._-]{1,128})")
_KEY_BYTES: Final = 32


def make_token() -> str:
    """Return a new token: 256 random bits."""
    return "coord_" + urlsafe_b64encode(secrets.token_bytes(32)).rstrip(b"=").decode()


def digest_of(token: str) -> str:
    """Return what ``web.toml`` has of a token."""
    return sha256(token.encode()).hexdigest()


def cookie_name(port: str, *, secure: bool) -> str:
    """Return the cookie's name: cookies know no ports, so two gateways of one host need two.

    :param port: of the Host header; empty for the scheme's own.
    """
    name = f"coord-{port or ('443' if secure else '80')}"
    return f"__Host-{name}" if secure else name


def read_key(path: Path) -> bytes:
    """Return the key in a file, which is made with mode 0600 if it is not there; raise `InvalidInput`."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        except FileExistsError:
            pass
        else:
            os.write(file, secrets.token_hex(_KEY_BYTES).encode() + b"\n")
            os.close(file)
        if path.stat().st_mode & 0o077:
            raise InvalidInput(f"cookie_key: others may read {path}, and so log in as anybody; chmod go= {path}")
        text = path.read_text(encoding="ascii").strip()
        if len(text) < 2 * _KEY_BYTES:
            raise InvalidInput(f"cookie_key: {path} has less than {2 * _KEY_BYTES} characters")
    except OSError as error:
        raise InvalidInput(f"cookie_key: {path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise InvalidInput(f"cookie_key: {path} is not ASCII") from None
    return sha256(text.encode()).digest()


class Tokens:
    """The tokens of a gateway, and the cookies that stand for them.

    A cookie has the token's name, when it expires, and a code under the gateways' common key, so that it is good at
    each of them, and after a restart. It is good as long as its token is.

    :param now: the time in seconds since the epoch.
    """

    def __init__(self, config: Config, key: bytes, now: Callable[[], float]) -> None:
        self._key = key
        self._now = now
        self._by_name = {token.name: token for token in config.tokens}
        self._principals = {digest: _principal(token, digest) for digest, token in by_digest(config).items()}

    def of_header(self, authorization: str) -> Principal:
        """Return the principal of an ``Authorization`` header; raise the `Problem` 401."""
        match = _BEARER.fullmatch(authorization.strip())
        if match is None:
            raise _unauthorized("send Authorization: Bearer TOKEN")
        return self.of_token(match[1])

    def of_token(self, text: str) -> Principal:
        """Return the principal of a token; raise the `Problem` 401."""
        principal = self._principals.get(digest_of(text))
        if principal is None:
            raise _unauthorized("the token is not known here")
        if self._over(principal):
            raise _unauthorized("the token has expired")
        return principal

    def of_digest(self, digest: str) -> Principal | None:
        """Return the principal of the token with this digest, if there is one that has not expired."""
        principal = self._principals.get(digest)
        return None if principal is None or self._over(principal) else principal

    def _over(self, principal: Principal) -> bool:
        return principal.expires is not None and principal.expires <= self._now()

    def again(self, principal: Principal) -> Principal | None:
        """Return a principal as its token is now; `None` if that has gone, has expired, or has other rights."""
        now = self.of_digest(principal.proof)
        if now is None or now.name != principal.name or now.rights != principal.rights:
            return None
        if not principal.session:
            return now
        return replace(principal, expires=min(principal.expires or inf, now.expires or inf))

    # Cookies.

    def cookie(self, token: str) -> tuple[str, int]:
        """Return the value of a cookie for a token, and how many seconds it lasts; raise the `Problem` 401."""
        principal = self.of_token(token)
        now = self._now()
        expires = int(min(now + SESSION, principal.expires or now + SESSION))
        code = self._code(digest_of(token), principal.name, expires)
        return f"1.{expires}.{code}.{principal.name}", max(0, int(expires - now))

    def of_cookie(self, value: str) -> Principal | None:
        """Return the principal of a cookie; `None` if it is not, or no longer, good."""
        match = _COOKIE.fullmatch(value)
        if match is None or int(match[1]) <= self._now():
            return None
        expires, code, name = int(match[1]), match[2], match[3]
        digests = self._by_name[name].digests if name in self._by_name else ()
        signed = [each for each in digests if hmac.compare_digest(code, self._code(each, name, expires))]
        principal = self.of_digest(signed[0]) if signed else None
        if principal is None:
            return None
        until = min(expires, principal.expires or expires)
        return replace(principal, expires=until, session=sha256(code.encode()).hexdigest()[:16])

    def _code(self, digest: str, name: str, expires: int) -> str:
        parts = (b"coord cookie", digest.encode(), name.encode(), str(expires).encode())
        # Each with its length, so that no other parts make the same bytes.
        return hmac.new(self._key, b"".join(b"%d:%b" % (len(part), part) for part in parts), sha256).hexdigest()


def _principal(token: Token, digest: str) -> Principal:
    return Principal(token.name, Rights(token.rights), token.expires_at, proof=digest)


def _unauthorized(detail: str) -> Problem:
    return Problem("unauthorized", detail)
