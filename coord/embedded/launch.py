"""A coordinator with a server of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred

from coord.client.coordinator import Coordinator, connect
from coord.embedded.server import EmbeddedServer

__all__ = ["launch"]


def launch(data_dir: Path | str | None = None, *, reactor: Any = None, **options: Any) -> Deferred[Coordinator]:
    """Start the embedded server and return a coordinator that connects to it; closing it stops both.

    :param data_dir: where the server keeps its data; by default a temporary folder, removed when it stops.
    :param options: those of `coord.connect`.

    Errbacks `NoEmbeddedServer` if it cannot run here, `ServerRefused` if it does not start.
    """
    return Deferred.fromCoroutine(_launch(EmbeddedServer(data_dir, reactor=reactor), reactor, options))


async def _launch(server: EmbeddedServer, reactor: Any, options: dict[str, Any]) -> Coordinator:
    await server.start()
    try:
        coordinator = connect(server.url, reactor=reactor, **options)
    except BaseException:
        await server.stop()
        raise
    coordinator.add_cleanup(server.stop)
    return coordinator
