"""The parts of fakeredis that coord uses, and the clock that it reads.

The names are private. They are the same in all versions that pyproject.toml allows; `tests/testing` checks that.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

try:
    import lupa  # noqa: F401  # without it fakeredis silently has no scripts
    from fakeredis import FakeServer, _helpers
    from fakeredis._command_args_parsing import Int
    from fakeredis._commands import Signature
    from fakeredis._helpers import SimpleError, SimpleString
    from fakeredis._socket import FakeSocket, _base
    from fakeredis.commands_mixins import connection_mixin, server_mixin
    from fakeredis.model import _client_info, _stream
except ImportError as problem:
    raise ImportError(
        f"coord.testing needs its extra ({problem}): pip install 'coord[testing]'", name=problem.name
    ) from problem

__all__ = ["FakeServer", "FakeSocket", "Int", "Signature", "SimpleError", "SimpleString", "on_clock"]

_READERS: tuple[Any, ...] = (_helpers, _base, connection_mixin, server_mixin, _client_info, _stream)
"""Every module of fakeredis in use that reads `time.time()`."""


class _Time:
    """Replaces the module `time` in these; outside `on_clock` it returns the real time."""

    def __init__(self) -> None:
        self.source: Callable[[], float] = time.time

    def time(self) -> float:
        return self.source()

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


_TIME = _Time()
for _module in _READERS:
    _module.time = _TIME


@contextmanager
def on_clock(source: Callable[[], float]) -> Iterator[None]:
    """Make fakeredis read its time (epoch seconds) from `source` within the block."""
    before, _TIME.source = _TIME.source, source
    try:
        yield
    finally:
        _TIME.source = before
