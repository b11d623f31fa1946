"""What a waiter may wait for other than the next wake: the end of an event, a count, or a wake after a revision.

Such a condition is about what is known of a key. Each is asked again whenever that changes, and belongs to one waiter.
"""

from __future__ import annotations

from coord.core.maps import MapState
from coord.core.records import NEVER, Revision, StoredRecord

__all__ = ["Condition", "Ended", "Reached", "Woken"]


class Condition:
    """One condition.

    ``armed``: every change of the key since it was first asked is known, or will be. ``since``: the newest revision of
    the key that was known then. ``order``: its waiter's number in the order of all waits and calls.
    """

    __slots__ = ("armed", "order", "since")

    def __init__(self) -> None:
        self.armed = False
        self.order = 0
        self.since = NEVER

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

    :param latched_at: that revision, if a read has told it already.
    """

    __slots__ = ("latched_at",)

    def __init__(self, latched_at: Revision | None = None) -> None:
        super().__init__()
        self.latched_at = latched_at

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


class Woken(Condition):
    """The key is latched, or its last wake came after the revision ``since``: a wait in pieces misses none in between.

    :param map_state: the map that the revision is of.
    """

    __slots__ = ("_map", "_seen")

    def __init__(self, since: Revision, map_state: MapState) -> None:
        super().__init__()
        self._seen = since
        self._map = map_state

    def met(self, stored: StoredRecord | None, *, armed: bool) -> bool:
        """Whether there was such a wake."""
        self.armed |= armed
        return stored is not None and self.met_earlier(stored)

    def met_earlier(self, stored: StoredRecord) -> bool:
        """Whether this record is, or has kept, such a wake."""
        # After a flush every wake is new, even with a lower revision (as in `Entry._take_woken`).
        flushed = self._seen.generation == self._map.flushed_generation
        return stored.latched or stored.wake_revision > (NEVER if flushed else self._seen)
