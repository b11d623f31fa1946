"""The output of ``coord demo``: lines at a readable pace, in colour on a terminal."""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.task import deferLater

from coord.cli._escapes import escaped
from coord.cli._output import Output

__all__ = ["Stage"]

_PLAIN, _BOLD = "\x1b[0m", "\x1b[1m"
_COLOURS = {"node1": "\x1b[36m", "node2": "\x1b[35m", "node3": "\x1b[33m", "server": "\x1b[34m", "page": "\x1b[34m"}
_GOOD, _BAD = "\x1b[32m", "\x1b[31m"
# Seconds to read a line, and to read the title of a scene.
_LINE, _SCENE = 0.08, 0.25


class Stage:
    """Shows who does what."""

    def __init__(self, reactor: Any, output: Output, *, fast: bool) -> None:
        self._reactor = reactor
        self._output = output
        self._fast = fast
        self._coloured = os.isatty(1) and os.environ.get("TERM") != "dumb" and not os.environ.get("NO_COLOR")

    async def scene(self, title: str) -> None:
        """Begin a scene."""
        await self._output.write(f"\n{self._in(_BOLD, title)}\n")
        await self._pause(_SCENE)

    async def tell(self, who: str, what: str) -> None:
        """Print what a process does, or what happens to it."""
        await self._output.write(f"  {self._in(_COLOURS.get(who, ''), f'{who:7}')}  {escaped(what)}\n")
        await self._pause(_LINE)

    async def end(self, text: str, *, well: bool) -> None:
        """Print the result."""
        await self._output.write(f"\n{self._in(_GOOD if well else _BAD, escaped(text))}\n")

    async def _pause(self, seconds: float) -> None:
        if not self._fast:
            await deferLater(self._reactor, seconds)

    def _in(self, colour: str, text: str) -> str:
        return f"{colour}{text}{_PLAIN}" if self._coloured and colour else text
