"""Twisted's interfaces as far as we use them, typed for a type checker without plugins."""

from collections.abc import Callable
from typing import Any, Protocol


class Delayed(Protocol):
    """A pending call (IDelayedCall)."""

    def cancel(self) -> None: ...

    def active(self) -> bool: ...


class Clock(Protocol):
    """A reactor or a task.Clock (IReactorTime)."""

    def seconds(self) -> float: ...

    def callLater(self, delay: float, call: Callable[..., object], /, *args: Any) -> Any: ...


class Wire(Protocol):
    """Receives the events of a connection (IProtocol)."""

    def makeConnection(self, transport: Any, /) -> None: ...

    def dataReceived(self, data: bytes, /) -> None: ...

    def connectionLost(self, reason: Any, /) -> None: ...


class WireFactory(Protocol):
    """Creates a `Wire` for each connection (IProtocolFactory)."""

    def buildProtocol(self, addr: Any, /) -> Any: ...

    def doStart(self) -> None: ...

    def doStop(self) -> None: ...
