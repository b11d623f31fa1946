"""Which format of a stream a client accepts."""

from __future__ import annotations

from typing import Final

from coord.web.frames import EVENTS, LINES, Format
from coord.web.problems import Problem

__all__ = ["form_of"]

_FORMATS: Final = {
    "text/event-stream": EVENTS,
    "application/x-ndjson": LINES,
    "application/ndjson": LINES,
    "text/*": EVENTS,
    "*/*": EVENTS,
    "application/*": LINES,
}


def form_of(accept: str | None) -> Format:
    """Return the format that a header ``Accept`` prefers; raise the `Problem` 406 if there is none."""
    best: tuple[float, Format] | None = None
    for word in (accept or "*/*").split(","):
        kind, *parameters = (part.strip().lower() for part in word.split(";"))
        form, quality = _FORMATS.get(kind), _quality(parameters)
        if form is not None and quality > (best[0] if best else 0):
            best = quality, form
    if best is None:
        raise Problem("not-acceptable", "a stream is text/event-stream or application/x-ndjson")
    return best[1]


def _quality(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0
