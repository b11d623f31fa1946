"""A coordinator with a server of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Unpack

from twisted.internet.defer import Deferred

from coord.client.coordinator import Coordinator, connect
from coord.embedded.server import EmbeddedServer
from coord.session.settings import SettingOptions

__all__ = ["launch"]


def launch(
    data_dir: Path | str | None = None,
    *,
    namespace: str = "default",
    node: str | None = None,
    reactor: Any = None,
    database: int | None = None,
    **settings: Unpack[SettingOptions],
) -> Deferred[Coordinator]:
    """Start the embedded server and return a coordinator that connects to it; closing it stops both.

    :param data_dir: where the server keeps its data; by default a temporary folder, removed when it stops.
    :param namespace, node, reactor, database, settings: as in `coord.connect`.

    Errbacks `NoEmbeddedServer` if it cannot run here, `ServerRefused` if it does not start.
    """
    server = EmbeddedServer(data_dir, reactor=reactor)

    def connected() -> Coordinator:
        return connect(server.url, namespace=namespace, node=node, reactor=reactor, database=database, **settings)

    return Deferred.fromCoroutine(_launch(server, connected))


async def _launch(server: EmbeddedServer, connected: Callable[[], Coordinator]) -> Coordinator:
    await server.start()
    try:
        coordinator = connected()
    except BaseException:
        await server.stop()
        raise
    coordinator.add_cleanup(server.stop)
    return coordinator
