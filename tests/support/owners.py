"""What several `locking.py` processes have said of one lock, and whether no two owned it at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from support.processes import Talker

__all__ = ["Owners", "contend"]


def contend(address: str, name: str, times: tuple[float, float, float], resource: Path) -> Talker:
    """Start a process whose tasks want the lock."""
    return Talker("locking.py", address, name, *map(str, times), str(resource))


class Owners:
    """What the processes have said so far."""

    def __init__(self, processes: Iterable[Talker]) -> None:
        self.processes = list(processes)

    def _said(self) -> Iterator[tuple[str, str, float]]:
        for process in self.processes:
            for line in process.lines:
                token, verb, time = line.split(" ")
                yield token, verb, float(time)

    def owner(self) -> Talker:
        """Return the process that was granted the lock last."""
        granted = {
            process: max(each.split(" ")[0] for each in process.lines) for process in self.processes if process.lines
        }
        return max(granted, key=granted.__getitem__)

    def count(self, verb: str) -> int:
        """Return how often something was said."""
        return sum(said == verb for _, said, _ in self._said())

    def check(self) -> list[str]:
        """Return what breaks L5 or L8: a higher token was granted after all that was said of lower ones."""
        first: dict[str, float] = {}
        last: dict[str, float] = {}
        problems = []
        for token, verb, time in self._said():
            if verb == "granted":
                if token in first:
                    problems.append(f"{token} was granted twice")
                first[token] = time
            elif verb == "valid":
                last[token] = max(time, last.get(token, time))
        latest, owner = 0.0, ""
        for token in sorted(first):
            if first[token] < latest:
                problems.append(f"{token} was granted {latest - first[token]:.3f} s before {owner} was seen valid")
            if last.get(token, 0.0) > latest:
                latest, owner = last[token], token
        return problems
