"""Durations as users write them: ``30``, ``30s``, ``5m``, ``1h``, ``500ms``."""

from __future__ import annotations

import re
from typing import Any

import click

__all__ = ["DURATION", "TTL", "parse_duration", "remaining", "spell"]

_SECONDS = {"ms": 0.001, "": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?|\.\d+)(ms|s|m|h|d|)", re.ASCII)
# What `remaining` shows, from which number of seconds on.
_COARSE = (("days", 86400, 172800), ("h", 3600, 7200), ("min", 60, 120), ("s", 1, 0))
# Far beyond any use, and far below the limits of the reactor's and the kernel's timers.
_LONGEST_DAYS = 3650


def parse_duration(text: str, *, unit: bool = False) -> float:
    """Return a duration in seconds; raise `ValueError` with the rule that ``text`` breaks.

    :param unit: require a unit, if a plain number means something else.
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None or (unit and not match[2]):
        raise ValueError("a time is a non-negative number, optionally followed by ms, s, m, h or d: 30, 30s, 5m")
    seconds = float(match[1]) * _SECONDS[match[2]]
    if seconds > _LONGEST_DAYS * 86400:
        raise ValueError(f"a time is at most {_LONGEST_DAYS} days")
    return seconds


def spell(seconds: float) -> str:
    """Return a duration in seconds as users write it."""
    for unit in ("h", "m"):
        if seconds and seconds % _SECONDS[unit] == 0:
            return f"{seconds / _SECONDS[unit]:g}{unit}"
    return f"{seconds:g}s"


def remaining(seconds: float) -> str:
    """Return the time until an event ends, in the largest unit of which there are some, rounded down."""
    if seconds < 10:
        return f"{int(seconds * 10) / 10:g} s"
    unit, size = next((unit, size) for unit, size, least in _COARSE if seconds >= least)
    return f"{int(seconds / size)} {unit}"


class _Duration(click.ParamType[float]):
    name = "time"

    def __init__(self, least: float = 0.0) -> None:
        self._least = least

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        # An argument that looks like a number has a NUL before it (see `Command`).
        text = value.replace("\0", "")
        try:
            seconds = parse_duration(text)
        except ValueError as error:
            self.fail(f"{text!r}: {error}", param, ctx)
        if seconds < self._least:
            self.fail(f"{text!r}: this time is at least {self._least * 1000:g}ms", param, ctx)
        return seconds


DURATION = _Duration()
TTL = _Duration(least=0.001)
