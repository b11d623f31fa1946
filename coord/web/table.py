"""All routes. A module with routes is named here."""

from __future__ import annotations

from typing import Any, Final

from coord.web import (
    acks,
    assets,
    audience,
    calls,
    counts,
    health,
    holds,
    leases,
    locks,
    openapi,
    records,
    sessions,
    status,
    waits,
    watching,
)
from coord.web.routes import Route

__all__ = ["TABLE"]

_ROUTES: Final[tuple[Route[Any, Any], ...]] = (
    *status.ROUTES,
    *records.ROUTES,
    *waits.ROUTES,
    *audience.ROUTES,
    *calls.ROUTES,
    *counts.ROUTES,
    *acks.ROUTES,
    *holds.ROUTES,
    *locks.ROUTES,
    *leases.ROUTES,
    *watching.ROUTES,
    *sessions.ROUTES,
    *health.ROUTES,
    *assets.ROUTES,
)

TABLE: Final[tuple[Route[Any, Any], ...]] = (*_ROUTES, openapi.route_of(_ROUTES))
