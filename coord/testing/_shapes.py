"""What we use of Twisted's interfaces, in words that a type checker without plugins understands."""

from collections.abc import Callable
from typing import Any, Protocol


class Delayed(Protocol):
    """A call to come (IDelayedCall)."""

    def cancel(self) -> None: ...

    def active(self) -> bool: ...


class Clock(Protocol):
    """A reactor or a task.Clock (IReactorTime)."""

    def seconds(self) -> float: ...

    def callLater(self, delay: float, call: Callable[..., object], /, *args: Any) -> Any: ...


class Wire(Protocol):
    """Who is told what happens to a connection (IProtocol)."""

    def makeConnection(self, transport: Any, /) -> None: ...

    def dataReceived(self, data: bytes, /) -> None: ...

    def connectionLost(self, reason: Any, /) -> None: ...


class WireFactory(Protocol):
    """Who makes a `Wire` for each connection (IProtocolFactory)."""

    def buildProtocol(self, addr: Any, /) -> Any: ...

    def doStart(self) -> None: ...

    def doStop(self) -> None: ...
