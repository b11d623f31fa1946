"""Who has acknowledged a change: what is known of each name, and when that is enough.

Several processes may share the name of a node. A name is counted once there was a moment at which each living process
of that name had acknowledged the change. Which processes live, and what they have acknowledged, is known from different
answers, so an answer about the living counts only together with what was known when it was asked for. A process may
acknowledge and leave: so a name has left only if its acknowledgements, read after nobody lived, are none.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Acknowledgements", "Acks"]


@dataclass(frozen=True, slots=True)
class Acks:
    """Who has acknowledged a change: the ``names`` of nodes that have, sorted; those ``missing``; those that ``left``.

    Who left had been a member and was none any more when it was asked for last, and had not acknowledged.
    """

    names: tuple[str, ...]
    missing: tuple[str, ...]
    left: tuple[str, ...]


class Acknowledgements:
    """What is known of one change.

    :param wanted: the names that are waited for, or how many names.
    """

    def __init__(self, wanted: Iterable[str] | int) -> None:
        self._number = wanted if isinstance(wanted, int) else 0
        # In each case in the order in which they became known.
        self._names = dict.fromkeys(() if isinstance(wanted, int) else wanted)
        self._acks: dict[str, frozenset[str]] = {}
        self._counted: set[str] = set()
        self._members: set[str] = set()
        self._left: set[str] = set()

    @property
    def open(self) -> list[str]:
        """The names to ask for: they are not counted yet."""
        return [name for name in self._names if name not in self._counted]

    @property
    def over(self) -> bool:
        """Whether there is nobody left to wait for."""
        return len(self._counted) >= self._number > 0 or not (self._number or {*self.open} - self._left)

    def report(self) -> Acks:
        """Return who has acknowledged, and who has not."""
        opened = {*self.open}
        left = opened & self._left
        return Acks(tuple(sorted(self._counted)), tuple(sorted(opened - left)), tuple(sorted(left)))

    def acks_of(self, name: str) -> frozenset[str]:
        """Return the processes of this name that have acknowledged, as far as is known."""
        return self._acks.get(name, frozenset())

    def acked(self, name: str, process: str) -> None:
        """Note that a process of this name has acknowledged."""
        self._acks[name] = self.acks_of(name) | {process}
        if self._number:
            self._names.setdefault(name)

    def want(self, members: list[str]) -> None:
        """Wait for these members, too."""
        self._names |= dict.fromkeys(members)
        self._members.update(members)

    def was_member(self, name: str) -> None:
        """Note that a name was a member at some time since the wait began."""
        self._members.add(name)

    def found(self, name: str, living: frozenset[str], before: frozenset[str]) -> bool:
        """Note which processes of this name live.

        :param before: those that were known to have acknowledged when that was asked for.
        :returns: whether the acknowledgements of this name have to be read again, and then `read_again` called.
        """
        if living:
            self._members.add(name)
            self._left.discard(name)
        if before and living <= before:
            self._counted.add(name)
        return not living and name in self._members - self._counted

    def read_again(self, name: str) -> None:
        """Note that the acknowledgements of this name were read since none of its processes lived.

        If there are any, the name has to be asked for again: its processes may be others now.
        """
        if not self.acks_of(name):
            self._left.add(name)
