"""Records as lines: tab-separated in a pipe; on a terminal a table with a header, within its width."""

from __future__ import annotations

import os
import shutil
import unicodedata
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from coord.cli._output import Output

__all__ = ["COLUMNS", "Table", "layout", "on_terminal", "width_of"]

COLUMNS: Final = ("KEY", "KIND", "VALUE", "REVISION", "TIME", "NODE", "SUBS", "EXPIRES")
"""The columns, in order; a line may have fewer fields."""

_GAP: Final = "  "
_CUT: Final = "…"
# Steps to fit a line to a narrow terminal, applied in order until it fits: shrink the column to this width, or (0) omit
# it. A pipe and --json always show the revision.
_STEPS: Final = (
    ("VALUE", 20),
    ("REVISION", 0),
    ("SUBS", 0),
    ("KEY", 32),
    ("NODE", 0),
    ("VALUE", 12),
    ("KEY", 20),
    ("TIME", 0),
    ("EXPIRES", 0),
    ("KEY", 12),
    ("VALUE", 8),
)
# Expected widths for lines that arrive one by one.
_EXPECTED: Final = {"KEY": 20, "KIND": 6, "VALUE": 60, "TIME": 8, "NODE": 8}


def on_terminal() -> bool:
    """Whether standard output is a terminal."""
    return os.isatty(1)


class Table:
    """Prints lines of fields. The first lines determine the widths of the columns."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._widths: dict[int, int] | None = None
        self._aligned = on_terminal()

    async def lines(self, lines: Sequence[Sequence[str]]) -> None:
        """Print all lines, or at least many of them."""
        if self._aligned and lines:
            await self._begin(lines)
        for line in lines:
            await self._print(line, self._widths or {})

    async def line(self, line: Sequence[str]) -> None:
        """Print one line, before the next ones are known."""
        if self._aligned:
            expected = [_EXPECTED.get(name, 0) * " " for name in COLUMNS[: len(line)]]
            await self._begin([line, expected])
        await self._print(line, _with_room_for(line, self._widths or {}))

    async def _begin(self, lines: Sequence[Sequence[str]]) -> None:
        if self._widths is None:
            self._widths = layout(lines, shutil.get_terminal_size().columns)
            await self._print(COLUMNS, self._widths)

    async def _print(self, line: Sequence[str], widths: Mapping[int, int]) -> None:
        if self._aligned:
            text = _GAP.join(_cell(_field(line, at), width) for at, width in widths.items()).rstrip(" ")
        else:
            text = "\t".join(line)
        await self._output.line(text)


def layout(lines: Sequence[Sequence[str]], room: int) -> dict[int, int]:
    """Return the widths of the shown columns, by their number, for a terminal that is ``room`` wide."""
    names = COLUMNS[: max(map(len, lines))]
    natural = {at: max(map(width_of, (name, *(_field(line, at) for line in lines)))) for at, name in enumerate(names)}
    shown = dict(natural)
    for name, width in _STEPS:
        over = _over(shown, room)
        if over <= 0:
            break
        if name in names:
            at = names.index(name)
            if width:
                shown[at] = max(shown[at] - over, min(shown[at], width))
            else:
                del shown[at]
    # Use the space of omitted columns.
    for at in (names.index("KEY"), names.index("VALUE")):
        shown[at] = min(natural[at], shown[at] + max(0, -_over(shown, room)))
    return shown


def _field(line: Sequence[str], at: int) -> str:
    return line[at] if at < len(line) else ""


def _over(shown: dict[int, int], room: int) -> int:
    return sum(shown.values()) + len(_GAP) * (len(shown) - 1) - room


def _with_room_for(line: Sequence[str], widths: Mapping[int, int]) -> Mapping[int, int]:
    """Return the widths for a line with a longer key than the lines before: it may use space of a short value."""
    key, value = COLUMNS.index("KEY"), COLUMNS.index("VALUE")
    if not widths or (missing := width_of(line[key]) - widths[key]) <= 0:
        return widths
    borrowed = max(0, min(missing, widths[value] - max(len("VALUE"), width_of(line[value]))))
    return {**widths, key: widths[key] + borrowed, value: widths[value] - borrowed}


def _cell(text: str, width: int) -> str:
    """Return ``text`` padded or cut to exactly ``width`` columns."""
    if width_of(text) > width:
        while width_of(text) > width - 1:
            text = text[: min(len(text) - 1, width)]
        text += _CUT
    return text + " " * (width - width_of(text))


def width_of(text: str) -> int:
    """Return how many columns ``text`` takes on a terminal."""
    if text.isascii():
        return len(text)
    return sum(_width(character) for character in text)


def _width(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
