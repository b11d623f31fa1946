"""What a waiter may wait for other than a wake: the end of an event, or a count.

Such a condition is about what is known of a key. Each is asked again whenever that changes, and belongs to one waiter.
"""

from __future__ import annotations

from coord.core.records import Revision, StoredRecord

__all__ = ["Condition", "Ended", "Reached"]


class Condition:
    """One condition; ``armed``: every change of the key since it was first asked is known, or will be."""

    __slots__ = ("armed",)

    def __init__(self) -> None:
        self.armed = False

    def met(self, stored: StoredRecord | None, *, armed: bool) -> bool:
        """Whether it is met, now that this is the key's record.

        :param armed: every change of the key from now on will be known.
        """
        raise NotImplementedError

    def met_earlier(self, stored: StoredRecord) -> bool:
        """Whether a record meant that it is met that has been replaced since."""
        raise NotImplementedError


class Ended(Condition):
    """The event is over (L10); at once if the key is pending.

    If it ended and was latched anew while that was not noticed, the revision at which it was latched tells.
    """

    __slots__ = ("latched_at",)

    def __init__(self) -> None:
        super().__init__()
        self.latched_at: Revision | None = None

    def met(self, stored: StoredRecord | None, *, armed: bool) -> bool:
        """Whether the key is pending, or latched anew."""
        if not (armed or self.armed):
            return False
        latched_at = stored.latched_at if stored is not None else None
        if latched_at is None or self.latched_at not in (None, latched_at):
            return True
        self.armed, self.latched_at = True, latched_at
        return False

    def met_earlier(self, stored: StoredRecord) -> bool:
        """Whether the key was pending, or latched anew."""
        return self.latched_at is not None and self.latched_at < (stored.latched_at or stored.revision)


class Reached(Condition):
    """The key's count is at least ``least``."""

    __slots__ = ("_least",)

    def __init__(self, least: int) -> None:
        super().__init__()
        self._least = least

    def met(self, stored: StoredRecord | None, *, armed: bool) -> bool:
        """Whether the count is high enough."""
        self.armed |= armed
        return stored is not None and self.met_earlier(stored)

    def met_earlier(self, stored: StoredRecord) -> bool:
        """Whether the count was high enough."""
        return stored.count is not None and stored.count >= self._least
