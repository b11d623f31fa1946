"""The interfaces of what receives the events of a subscriber connection, and of a link."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from coord.errors import AccessDenied, ServerRefused

__all__ = ["Listener", "Receiver"]


class Listener(Protocol):
    """Receives the events of the subscriber connection."""

    def subscribed(self, channel: bytes) -> None:
        """A SUBSCRIBE was confirmed."""

    def unsubscribed(self, channel: bytes) -> None:
        """An UNSUBSCRIBE was confirmed."""

    def subscribe_refused(self, channels: Sequence[bytes], message: str) -> None:
        """The server refused one SUBSCRIBE with all its channels."""

    def unsubscribe_refused(self, channels: Sequence[bytes], message: str) -> None:
        """The server refused one UNSUBSCRIBE with all its channels."""

    def message_received(self, channel: bytes, payload: bytes) -> None:
        """A message came."""


class Receiver(Listener, Protocol):
    """Receives the events of the link, and those of its subscriber connection."""

    @property
    def receive_context(self) -> AbstractContextManager[None]:
        """Entered around everything that is received on a connection."""

    def link_made(self) -> None:
        """The link is up."""

    def link_lost(self, reason: str) -> None:
        """The link is lost; unanswered commands have failed."""

    def attempt_failed(self, reason: str) -> None:
        """An attempt failed; another will follow."""

    def denied(self, error: AccessDenied | ServerRefused) -> None:
        """An attempt failed for a reason that an operator has to change; another will follow."""

    def heartbeat(self) -> None:
        """The heartbeat came back."""

    def postponed(self, message: str) -> None:
        """The server had no time for the heartbeat; the link stays up. ``message`` is its reply."""
