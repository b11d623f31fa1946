"""Who asks: what a token may do, and a cookie in its place for browsers.

A browser's EventSource cannot send a token, and what a page keeps, a script that was smuggled into it could read. So a
page trades the token for a cookie that no script sees.
"""

from __future__ import annotations

from msgspec import Struct

from coord.web.exchange import Answer, Exchange
from coord.web.routes import NoQuery, Route
from coord.web.tokens import cookie_name

__all__ = ["ROUTES"]


class Me(Struct, kw_only=True):
    """Who asks. ``expires`` is in seconds since the epoch; ``session`` names a log-in, and is empty without one."""

    name: str
    anonymous: bool
    rights: tuple[str, ...]
    expires: float | None
    session: str
    gateway: str
    namespace: str


class Login(Struct, forbid_unknown_fields=True):
    """A token."""

    token: str


async def get_me(exchange: Exchange[NoQuery, None]) -> Answer:
    """Answer with who asks."""
    principal, gateway = exchange.principal, exchange.gateway
    return Answer.of(
        Me(
            name=principal.name,
            anonymous=principal.anonymous,
            rights=principal.rights.words,
            expires=principal.expires,
            session=principal.session,
            gateway=gateway.name,
            namespace=gateway.coordinator.namespace,
        )
    )


async def post_session(exchange: Exchange[NoQuery, Login]) -> Answer:
    """Trade a token for a cookie."""
    value, seconds = exchange.gateway.tokens.cookie(exchange.body.token)
    return _with_cookie(exchange, value, seconds)


async def delete_session(exchange: Exchange[NoQuery, None]) -> Answer:
    """Clear the browser's copy. A copy elsewhere stays good until it expires, or its token goes."""
    return _with_cookie(exchange, "", 0)


def _with_cookie(exchange: Exchange[NoQuery, Login] | Exchange[NoQuery, None], value: str, seconds: int) -> Answer:
    assert exchange.host is not None
    secure = exchange.client.secure
    name = cookie_name(exchange.host.port, secure=secure)
    words = f"{name}={value}; Max-Age={seconds}; Path=/; HttpOnly; SameSite=Strict"
    return Answer(204, headers={"Set-Cookie": f"{words}; Secure" if secure else words})


ROUTES = (
    Route("GET", "/v1/me", get_me, answer=Me, public=True, summary="Who asks, and what they may do."),
    Route(
        "POST",
        "/v1/session",
        post_session,
        body=Login,
        public=True,
        problems=("unauthorized",),
        success=204,
        summary="Trade a token for a cookie.",
    ),
    Route(
        "DELETE",
        "/v1/session",
        delete_session,
        public=True,
        success=204,
        summary="Log out: clear the browser's cookie.",
    ),
)
