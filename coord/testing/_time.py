"""The clock that fakeredis reads: its modules say `time.time()`, each server wants its own."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from fakeredis import _helpers
from fakeredis._socket import _base
from fakeredis.commands_mixins import connection_mixin, server_mixin
from fakeredis.model import _client_info, _stream

_READERS: tuple[Any, ...] = (
    _helpers,
    _base,
    connection_mixin,
    server_mixin,
    _client_info,
    _stream,
)
"""Every module of fakeredis 2.40 on our way that looks at the time, as `time.time()`."""


class _Time:
    """Stands where these modules say `time`; outside a server of ours it is the real one."""

    def __init__(self) -> None:
        self.source: Callable[[], float] | None = None

    def time(self) -> float:
        return time.time() if self.source is None else self.source()

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


_TIME = _Time()
for _module in _READERS:
    _module.time = _TIME


@contextmanager
def on_clock(source: Callable[[], float]) -> Iterator[None]:
    """Let fakeredis read its time (epoch seconds) from `source` within the block."""
    before, _TIME.source = _TIME.source, source
    try:
        yield
    finally:
        _TIME.source = before
