"""Twisted's log on the command line: a warning is a line on stderr, a traceback is not shown."""

from __future__ import annotations

from functools import cache
from typing import Any

from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent, globalLogBeginner, textFileLogObserver
from zope.interface import provider

from coord.cli._talk import Stderr, debug_hint, debugging, say

__all__ = ["begin"]


@cache
def begin() -> None:
    """Show warnings as lines on stderr. With COORD_DEBUG=1 the whole log goes to stderr."""
    stderr: Any = Stderr()
    observer: Any = textFileLogObserver(stderr) if debugging() else _say_warnings
    globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False, discardBuffer=True)


@provider(ILogObserver)  # type: ignore[untyped-decorator]
def _say_warnings(event: LogEvent) -> None:
    level = event.get("log_level", LogLevel.info)
    if level >= LogLevel.critical:
        failure = event.get("log_failure")
        what = formatEvent(event) if failure is None else f"{failure.type.__name__}: {failure.getErrorMessage()}"
        say(f"internal error: {what}{debug_hint()}")
    elif level >= LogLevel.warn:
        say(formatEvent(event), again=False)
