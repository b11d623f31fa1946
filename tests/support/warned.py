"""What coord logged as a warning."""

from __future__ import annotations

from typing import Any, Self

from twisted.logger import LogEvent, LogLevel, formatEvent, globalLogPublisher

__all__ = ["Warned"]


class Warned:
    """Collects the warnings of a block, as text."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._observer: Any = self._observe

    def __enter__(self) -> Self:
        globalLogPublisher.addObserver(self._observer)
        return self

    def __exit__(self, *_: Any) -> None:
        globalLogPublisher.removeObserver(self._observer)

    def _observe(self, event: LogEvent) -> None:
        if event.get("log_level") is LogLevel.warn:
            self.texts.append(formatEvent(event))

    def matching(self, word: str) -> list[str]:
        """Return those with this word in them."""
        return [text for text in self.texts if word in text]
