"""How the gateway is: alive, ready, and its metrics."""

from __future__ import annotations

from msgspec import Struct

from coord.link.link import CONNECTED, SUSPENDED, LinkState
from coord.web.checks import refused
from coord.web.exchange import Answer, Exchange
from coord.web.problems import Problem
from coord.web.routes import NoQuery, Route

__all__ = ["ROUTES"]


class Health(Struct, kw_only=True):
    """What a probe is told. ``link`` is the state of the link to Redis, ``reason`` why."""

    status: str
    link: LinkState
    reason: str


async def get_health(_: Exchange[NoQuery, None]) -> Answer:
    """Answer that the process lives. It asks nobody: a restart would not bring Redis back."""
    return Answer.of({"status": "ok"})


async def get_ready(exchange: Exchange[NoQuery, None]) -> Answer:
    """Answer whether to send requests here: from the first connection to Redis until the stop.

    A lost link does not count: it would take all gateways out at once, and their streams with them. Nor does a map of a
    cluster whose server is gone: a client may name any map.
    """
    gateway, coordinator = exchange.gateway, exchange.gateway.coordinator
    linked = coordinator.link is SUSPENDED or any(each.state is CONNECTED for each in coordinator.links)
    ready = linked and not gateway.stopping
    status = "ok" if ready else "stopping" if gateway.stopping else "connecting"
    body = Health(status=status, link=coordinator.link, reason=coordinator.reason)
    return Answer.of(body, 200 if ready else 503, headers={} if ready else {"Retry-After": "1"})


async def get_metrics(exchange: Exchange[NoQuery, None]) -> Answer:
    """Answer with the metrics of the gateway and of its nodes, for Prometheus."""
    if not exchange.principal.rights.of("metrics", "*"):
        raise refused(exchange.principal, "metrics")
    try:
        from coord.web.metrics import shown
    except ModuleNotFoundError as error:
        raise Problem("not-found", f"metrics need the extra 'web' ({error}): pip install 'coord[web]'") from None

    body, content_type = shown(exchange.gateway, exchange.header("accept") or "")
    return Answer(200, body, content_type)


ROUTES = (
    Route("GET", "/healthz", get_health, answer=dict, open=True, summary="Whether the gateway lives."),
    Route("GET", "/readyz", get_ready, answer=Health, open=True, summary="Whether to send requests here."),
    Route(
        "GET",
        "/metrics",
        get_metrics,
        produces=("text/plain", "application/openmetrics-text"),
        summary="Metrics, for Prometheus; it wants the right metrics.",
    ),
)
