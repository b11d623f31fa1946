"""What a node knows of one map, whatever the kinds of channels it is subscribed to."""

from __future__ import annotations

from typing import NamedTuple

from coord.core.names import MapNames
from coord.core.records import NEVER, Head, Revision

__all__ = ["HeadChange", "MapState", "Tally"]


class HeadChange(NamedTuple):
    """What a newly read head says about the data of a map.

    ``lost``: data is gone that was there at the last head, ``before``. ``behind``: data is gone that was seen on an
    earlier link. ``doubtful``: the records received do not go together with the head, so data may be gone.
    ``appeared``: there is data that no message reported.
    """

    before: Revision
    revision: Revision
    lost: bool
    behind: bool
    doubtful: bool
    appeared: bool

    def voids(self, known: Revision) -> bool:
        """Whether what is known as of ``known`` is gone, now that the head is at ``revision``."""
        return known.generation not in (0, self.revision.generation) or self.revision < min(self.before, known)


class Tally:
    """Totals of one map, or of several, that only grow.

    ``waits`` were added to the table of keys, ``wakes`` removed by an event, ``cancelled`` by their users (time-outs
    included), and ``failed`` by an error. So what is left of the waits still waits.
    """

    __slots__ = ("cancelled", "failed", "waits", "wakes")

    def __init__(self) -> None:
        self.waits = self.wakes = self.cancelled = self.failed = 0

    @property
    def waiting(self) -> int:
        """How many are in the table now."""
        return self.waits - self.wakes - self.cancelled - self.failed


class MapState:
    """What the table knows of one map: its names, the newest revision seen, and the head on the present link."""

    __slots__ = (
        "__weakref__",
        "agreed_generation",
        "channels",
        "flushed_generation",
        "follows",
        "head",
        "mixed_generations",
        "names",
        "record_revision",
        "seen_on_last_link",
        "seen_revision",
        "tally",
    )

    def __init__(self, names: MapNames, tally: Tally | None = None) -> None:
        self.names = names
        # Shared by the maps that have no tally of their own, and by a map's states, each of which may be forgotten.
        self.tally = tally or Tally()
        # The number of the map's channels in the table.
        self.channels = 0
        # The newest revision in a head, or in an outcome of our own calls, on any link. Each call sends it, so that a
        # new generation is higher. Messages do not count: anyone may publish one.
        self.seen_revision = NEVER
        # `seen_revision` when the last link was lost.
        self.seen_on_last_link = NEVER
        # The generation that was flushed last; -1 for none.
        self.flushed_generation = -1
        # The newest revision of all records received on this link, and whether they had more than one generation.
        # Only a hint: a message may be forged.
        self.record_revision = NEVER
        self.mixed_generations = False
        # None until the first answer on this link; NEVER if the map has no data.
        self.head: Revision | None = None
        # The revision that the generation of the last head follows, on any link.
        self.follows = NEVER
        # The generation that the head (if known) and all records on this link share; -1 if they differ, or before the
        # first one.
        self.agreed_generation = -1

    def note_seen(self, revision: Revision) -> None:
        """Note the revision of a head, or of the outcome of our own call."""
        if revision > self.seen_revision:
            self.seen_revision = revision

    def note_generation(self, generation: int) -> bool:
        """Note the generation of a record, if it differs from what head and records agree on.

        :returns: whether the head has to be read, because it has another generation.
        """
        newest, head = self.record_revision, self.head
        if generation != newest.generation != 0:
            self.mixed_generations = True
        if head is not None and head.generation != generation:
            return True
        if generation >= newest.generation:
            self.agreed_generation = generation
        return False

    def forget_records(self) -> None:
        """Forget the revisions of the records received."""
        self.record_revision, self.mixed_generations, self.agreed_generation = NEVER, False, -1

    def link_lost(self) -> None:
        """Forget what was true on the lost link only."""
        self.head = None
        self.seen_on_last_link = self.seen_revision
        self.forget_records()

    def head_received(self, head: Head | None) -> HeadChange:
        """Take a head, and compare it with the last one and with the records received.

        A new generation that follows the revision we have seen is harmless: only the server process is another one. If
        it does not follow, the data was flushed or restored.
        """
        revision, follows = (head.revision, head.follows) if head else (NEVER, NEVER)
        last, self.head = self.head, revision
        earlier, self.follows = self.follows, follows
        self.agreed_generation = -1
        self.note_seen(revision)
        before, newest = last or NEVER, self.record_revision
        lost = not _continues(before, revision, follows)
        # A record had a generation that this head does not continue: either the head was read before that generation
        # began, or that generation is gone again. We cannot tell, and to subscribe to its few keys again costs little.
        doubtful = self.mixed_generations or (
            newest.generation != revision.generation and not _continues(newest, revision, follows)
        )
        if lost or doubtful:
            self.forget_records()
            # A generation that follows nothing began after a flush; unless it is the one before the last: then a server
            # with older data answers.
            if lost and follows == NEVER and revision.generation not in (before.generation, earlier.generation):
                self.flushed_generation = before.generation
        # The first head on a link is compared with what was seen on earlier links.
        behind = last is None and revision < self.seen_on_last_link
        # Data appeared without a message, as on a server that was made a replica.
        appeared = last == NEVER and newest.generation != revision.generation
        return HeadChange(before, revision, lost, behind, doubtful, appeared)


def _continues(before: Revision, revision: Revision, follows: Revision) -> bool:
    """Whether a head at ``revision``, in a generation that follows ``follows``, has all data of one at ``before``."""
    if before.generation == revision.generation:
        return before <= revision
    return before == NEVER or (follows.generation == before.generation and before <= follows)
