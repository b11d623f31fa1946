"""Where a stream is: the ids of its events, and ``since``.

The id of a stream of one map is a revision. That of several is ``MAP@REVISION`` for each, joined by commas. A map that
the stream has not reached yet has ``now`` or ``start`` there. Clients take ids as they come, and give them back.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, Literal, TypeAlias

from coord.core.quoting import quoted
from coord.core.records import Revision
from coord.errors import InvalidInput

__all__ = ["NOW", "START", "Position", "parse", "text_of"]

NOW: Final = "now"
START: Final = "start"

Position: TypeAlias = "Revision | Literal['now', 'start']"


def parse(text: str, maps: Sequence[str]) -> list[Position]:
    """Return the position in each map that an id, or ``since``, stands for; raise `InvalidInput` if it is none.

    ``now`` and ``start`` may stand for all maps. Else the id must be one of a stream of the same maps, in any order.
    """
    if text in (NOW, START) or len(maps) == 1:
        return [_position(text.removeprefix(f"{maps[0]}@"))] * len(maps)
    found: dict[str, Position] = {}
    for part in text.split(","):
        name, at, position = part.rpartition("@")
        if not at or name in found:
            raise InvalidInput(f"id {quoted(text[:80])}: the id of several maps is MAP@REVISION,MAP@REVISION...")
        found[name] = _position(position)
    if found.keys() != set(maps):
        raise InvalidInput(f"id {quoted(text[:80])}: it is of other maps than the stream's, {', '.join(maps)}")
    return [found[name] for name in maps]


def text_of(places: Iterable[tuple[str, Position]]) -> bytes:
    """Return the id of a stream that is at these positions."""
    several = list(places)
    if len(several) == 1:
        return str(several[0][1]).encode()
    return ",".join(f"{name}@{position}" for name, position in several).encode()


def _position(text: str) -> Position:
    if text == NOW:
        return NOW
    return START if text == START else Revision.parse(text)
