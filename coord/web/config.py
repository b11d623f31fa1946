"""``web.toml``: how the gateway listens, whom it lets do what, and how much."""

from __future__ import annotations

import re
import stat
from collections.abc import Mapping, Sequence
from datetime import datetime
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from coord.core.names import check_name
from coord.core.quoting import quoted
from coord.errors import InvalidInput
from coord.web.rights import ANONYMOUS, Rights

__all__ = ["Config", "Limits", "Token", "load", "parse"]

Positive = Annotated[int, Meta(ge=1)]

_DIGEST: Final = re.compile("[0-9a-f]{64}")
_ORIGIN: Final = re.compile(r"https?://[a-z0-9.\-\[\]:]+")
_HOST: Final = re.compile(r"[a-z0-9.-]+")
_UNKNOWN: Final = re.compile("Object contains unknown field `([^`]*)")
_OTHER_TYPE: Final = re.compile("Expected `([^`]*)`, got `([^`]*)`?")
_TYPES: Final = {
    "array": "a list",
    "bool": "true or false",
    "datetime": "a time",
    "int": "a number",
    "object": "a table",
    "str": "a string",
}
UNIX: Final = "unix:"


class Limits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much the gateway takes.

    ``connections``, ``connections_of_one`` (address); ``streams``, ``streams_of_one`` (principal); ``waits``,
    ``waits_of_one`` (keys waited for); ``leases_of_one``; ``named_of_one`` (calls with an Idempotency-Key in an hour);
    ``listings`` at once; ``rate`` and ``burst`` (requests a second of one principal); ``wait`` and ``grace``
    (seconds: the longest wait, and the stop).
    """

    connections: Positive = 25_000
    connections_of_one: Positive = 1_000
    streams: Positive = 20_000
    streams_of_one: Positive = 1_000
    waits: Positive = 100_000
    waits_of_one: Positive = 10_000
    leases_of_one: Positive = 1_000
    named_of_one: Positive = 100_000
    listings: Positive = 4
    rate: Positive = 200
    burst: Positive = 400
    wait: Annotated[int, Meta(ge=1, le=300)] = 300
    grace: Annotated[int, Meta(ge=1, le=300)] = 10


class Token(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A token: its name, the SHA-256 of its text (or of several, while it is changed), and what it may do."""

    name: str
    sha256: str | tuple[str, ...]
    rights: tuple[str, ...]
    expires: datetime | None = None

    @property
    def digests(self) -> tuple[str, ...]:
        """The digests, in small letters."""
        given = (self.sha256,) if isinstance(self.sha256, str) else self.sha256
        return tuple(each.lower() for each in given)

    @property
    def expires_at(self) -> float | None:
        """When it expires, in seconds since the epoch."""
        return None if self.expires is None else self.expires.timestamp()

    def check(self) -> None:
        """Raise `InvalidInput` if it breaks a rule."""
        check_name("token", self.name)
        if self.name == ANONYMOUS:
            raise InvalidInput(f"token {ANONYMOUS}: this is the name of whoever shows no token")
        if not self.digests or not all(map(_DIGEST.fullmatch, self.digests)):
            raise InvalidInput(f"token {self.name}: sha256 is 64 hexadecimal digits, or a list of these")
        if self.expires is not None and self.expires.tzinfo is None:
            raise InvalidInput(f"token {self.name}: expires has no time zone; write 2027-01-01T00:00:00Z")
        Rights(self.rights)


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"tokens": "token"}):
    """What ``web.toml`` says.

    ``listen``: ``HOST:PORT`` or ``unix:/PATH``. ``plain``: tokens may travel in plain text beyond this machine.
    ``behind_proxy``: the networks (and ``unix:``) whose ``X-Forwarded-For`` and ``-Proto`` are believed. ``hosts``:
    the names that the gateway goes by. ``cors``: the origins whose pages may use it. ``maps``: those that there are, if
    the gateway's user may not SCAN. ``anonymous``: the rights of whoever shows no token. ``cookie_key``: the file of
    the key that signs cookies.
    """

    listen: Annotated[tuple[str, ...], Meta(min_length=1)] = ("127.0.0.1:8181",)
    plain: bool = False
    behind_proxy: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    cors: tuple[str, ...] = ()
    maps: tuple[str, ...] | None = None
    anonymous: tuple[str, ...] | None = None
    cookie_key: str | None = None
    limits: Limits = Limits()
    tokens: tuple[Token, ...] = ()

    def check(self) -> None:
        """Raise `InvalidInput` if something breaks a rule."""
        for each in self.behind_proxy:
            _check_network(each)
        _check_words("hosts", self.hosts, _HOST, "a name in small letters, without a port")
        _check_words("cors", self.cors, _ORIGIN, "an origin, such as https://app.example.com")
        for name in self.maps or ():
            check_name("map", name)
        Rights(self.anonymous or ())
        for token in self.tokens:
            token.check()
        _check_once("token", [token.name for token in self.tokens])
        _check_once("sha256", [digest for token in self.tokens for digest in token.digests])


def _check_network(text: str) -> None:
    if text == UNIX:
        return
    try:
        network = ip_network(text)
    except ValueError as error:
        raise InvalidInput(f"behind_proxy: {error}") from None
    if not network.prefixlen:
        raise InvalidInput(f"behind_proxy: {text} is everybody, who could then claim any address; name the proxy's own")


def _check_words(what: str, words: Sequence[str], rule: re.Pattern[str], meaning: str) -> None:
    for word in words:
        if not rule.fullmatch(word):
            raise InvalidInput(f"{what}: {quoted(word)} is not {meaning}")


def _check_once(what: str, words: Sequence[str]) -> None:
    twice = sorted({word for word in words if words.count(word) > 1})
    if twice:
        raise InvalidInput(f"{what} {quoted(twice[0])}: there are two of it")


def parse(text: str | bytes, where: str = "web.toml") -> Config:
    """Return the settings in a text; raise `InvalidInput`, which names ``where`` and what is wrong."""
    try:
        config = msgspec.toml.decode(text if isinstance(text, str) else text.decode(), type=Config)
        config.check()
    except InvalidInput as error:
        raise InvalidInput(f"{where}: {error}") from None
    except UnicodeDecodeError:
        raise InvalidInput(f"{where}: not in UTF-8") from None
    except (ValueError, msgspec.ValidationError) as error:
        raise InvalidInput(f"{where}: {_plain(str(error))}") from None
    return config


def _plain(problem: str) -> str:
    """Return what the decoder says in the words of TOML, with the setting first."""
    said, _, path = problem.removesuffix("`").partition(" - at `$.")
    before = f"{path}: " if path else ""
    if unknown := _UNKNOWN.match(said):
        return f"{before}no such setting: {unknown[1]}"
    if other := _OTHER_TYPE.fullmatch(said):
        wanted = " or ".join(_TYPES.get(each, each) for each in other[1].split(" | ") if each != "null")
        return f"{before}{wanted} is needed, not {_TYPES.get(other[2], other[2])}"
    return f"{before}{said}" if path else problem


def load(path: Path) -> Config:
    """Read a file; raise `InvalidInput`, which names it and what is wrong.

    One that others may write is refused: they could write themselves a token.
    """
    try:
        mode = path.stat().st_mode
        if mode & (stat.S_IWGRP | stat.S_IWOTH) and stat.S_ISREG(mode):
            raise InvalidInput(f"{path}: others may write it, and so give themselves rights; chmod go-w {path}")
        data = path.read_bytes()
    except OSError as error:
        raise InvalidInput(f"{path}: {error.strerror or error}") from None
    return parse(data, str(path))


def by_digest(config: Config) -> Mapping[str, Token]:
    """Return the tokens by their digests."""
    return {digest: token for token in config.tokens for digest in token.digests}
