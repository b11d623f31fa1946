"""The web gateway: coord over HTTP, for programs that are not Python and for people who would rather look.

An application that uses the public API. A request passes through these modules::

    channel.py    bytes: limits and deadlines of a connection, before anything is kept
    request.py    one request of twisted.web: routed, allowed, decoded, answered
    routes.py     what a route is, and how one is found; ``table.py`` has all of them
    exchange.py   what a handler gets, and what it returns
    gateway.py    what all requests share: coordinators, settings, and parts such as the streams' hub

Pure modules, without Twisted: ``rights.py`` (who may what), ``problems.py`` (errors as RFC 9457 says), ``config.py``
(``web.toml``).

To add routes, write a module with handlers and a tuple ``ROUTES``, and name it in ``table.py``::

    class Query(Struct, kw_only=True, forbid_unknown_fields=True):
        key: str
        limit: Annotated[int, Meta(ge=1, le=10_000)] = 1_000

    async def look(exchange: Exchange[Query, None]) -> Answer:
        record = await exchange.events().record(exchange.query.key)
        return Answer.of(...)

    ROUTES = (Route("GET", "/v1/maps/{map}/look", look, Query, verb="read", answer=Look, summary="Look at a key."),)
"""
