"""``--metrics``: what runs long can show its metrics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import click

from coord.cli._exits import InUse
from coord.core.quoting import quoted

__all__ = ["Place", "begin", "metrics_option"]

F = TypeVar("F", bound=Callable[..., object])


class Place(NamedTuple):
    """Where to listen."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class _Place(click.ParamType["Place"]):
    name = "host:port"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Place:
        from importlib.util import find_spec
        from ipaddress import ip_address

        host, _, port = value.rpartition(":")
        host = host.removeprefix("[").removesuffix("]").replace("localhost", "127.0.0.1")
        try:
            place = Place(str(ip_address(host)), int(port))
        except ValueError:
            self.fail(f"{quoted(value)} is not an IP address and a port, such as 127.0.0.1:9464", param, ctx)
        if not 0 <= place.port < 1 << 16:
            self.fail(f"{port} is no port", param, ctx)
        if find_spec("prometheus_client") is None:
            self.fail("needs prometheus_client: pip install 'coord[metrics]'", param, ctx)
        return place


def _remember(ctx: click.Context, _: click.Parameter, value: Place | None) -> None:
    if value is not None:
        ctx.ensure_object(dict)["metrics"] = value


def metrics_option(function: F) -> F:
    """Add ``--metrics``, which becomes a part of the command's `Server`."""
    return click.option(
        "--metrics",
        type=_Place(),
        metavar="HOST:PORT",
        expose_value=False,
        callback=_remember,
        help="Show metrics at http://HOST:PORT/metrics.",
    )(function)


async def begin(reactor: Any, place: Place) -> None:
    """Listen, until the reactor stops; raise `InUse`."""
    from twisted.internet.error import CannotListenError

    from coord.metrics import listen

    try:
        await listen(reactor, *place)
    except CannotListenError as error:
        why = getattr(error.socketError, "strerror", None) or error.socketError
        raise InUse(f"--metrics: cannot listen at {place}: {why}") from None
