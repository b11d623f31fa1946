"""Private reactors: never installed, beside any other one, and gone without a trace afterwards."""

from __future__ import annotations

from threading import Thread
from typing import TYPE_CHECKING, Any, Final

__all__ = ["PrivateReactor"]

_LONGEST_END: Final = 0.1
"""Seconds to wait for a name look-up that goes on at the end; nothing can stop it."""

if TYPE_CHECKING:
    from twisted.internet.posixbase import PosixReactorBase as Base
else:
    Base = object


class PrivateReactor(Base):
    """Put this before the class of a reactor; ``_registerAsIOThread`` would make its thread that of the global one."""

    _registerAsIOThread = False  # noqa: N815 - Twisted's

    def getThreadPool(self) -> Any:
        """Return the pool, which looks up the names of hosts, with threads that do not keep a process alive."""
        pool = super().getThreadPool()
        pool.threadFactory = _LookUp
        return pool


class _LookUp(Thread):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.daemon = True

    def join(self, timeout: float | None = None) -> None:
        super().join(_LONGEST_END if timeout is None else timeout)
