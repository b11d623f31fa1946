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

    def callLater(self, delay: float, call: Callable[..., object], /, *args: Any) -> Any: ...  # noqa: N802


class Wire(Protocol):
    """Who is told what happens to a connection (IProtocol)."""

    def makeConnection(self, transport: Any, /) -> None: ...  # noqa: N802

    def dataReceived(self, data: bytes, /) -> None: ...  # noqa: N802

    def connectionLost(self, reason: Any, /) -> None: ...  # noqa: N802


class WireFactory(Protocol):
    """Who makes a `Wire` for each connection (IProtocolFactory)."""

    def buildProtocol(self, addr: Any, /) -> Any: ...  # noqa: N802

    def doStart(self) -> None: ...  # noqa: N802

    def doStop(self) -> None: ...  # noqa: N802
