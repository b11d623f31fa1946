"""txredisapi's protocol, imported without its side effect, which is to install Twisted's default reactor.

A node may run on a private reactor, in a program that installs another one later, or none. So txredisapi gets a
stand-in for the global reactor, which becomes that reactor when it is first used. Coord itself never uses it; a program
may use txredisapi beside coord.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any, Final

__all__ = ["RedisProtocol", "TxConnectionError"]

_REACTOR: Final = "twisted.internet.reactor"

# What txredisapi imports, so that the stand-in is there for a moment only.
_IMPORTED: Final = (
    "twisted.application.internet",
    "twisted.internet.endpoints",
    "twisted.internet.ssl",
    "twisted.internet.task",
    "twisted.protocols.basic",
    "twisted.protocols.tls",
)


class _GlobalReactor:
    """Has every attribute of the global reactor, which is imported when one is used."""

    def callLater(self, *args: Any, **options: Any) -> Any:
        # txredisapi takes this method when it is imported: a use of the attribute is no use of the reactor yet.
        return import_module(_REACTOR).callLater(*args, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(import_module(_REACTOR), name)


def _import() -> Any:
    if _REACTOR in sys.modules:
        return import_module("txredisapi")
    for name in _IMPORTED:
        import_module(name)
    package: Any = import_module("twisted.internet")
    # The attribute is what `from twisted.internet import reactor` takes. Without an entry in sys.modules, another
    # thread may still install a reactor meanwhile; it replaces this attribute.
    package.reactor = stand_in = _GlobalReactor()
    try:
        return import_module("txredisapi")
    finally:
        if package.reactor is stand_in:
            del package.reactor


_txredisapi: Final = _import()
RedisProtocol: Any = _txredisapi.RedisProtocol
TxConnectionError: Any = _txredisapi.ConnectionError
