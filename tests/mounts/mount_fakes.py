"""What the tests of the mount agent share: mount tables, refusals, and looks at a map."""

from __future__ import annotations

import string
from collections.abc import Callable
from pathlib import Path

from twisted.internet.defer import Deferred, fail

from coord import CaughtUp, EventMap, Hold, Json, Record

PLAIN = string.ascii_letters + string.digits + "/"


async def latched(events: EventMap) -> dict[str, Json]:
    """Return what is latched: key to value."""
    listing = await events.records()
    return {record.key: record.value for record in listing.records if record.latched}


async def history(events: EventMap, *keys: str) -> list[Record]:
    """Return what happened to these keys, in order; without keys, to all."""
    shown: list[Record] = []
    async with events.watch(since="start") as changes:
        async for change in changes:
            if isinstance(change, CaughtUp):
                break
            assert isinstance(change, Record)
            if not keys or change.key in keys:
                shown.append(change)
    return shown


class Refusing:
    """A map that answers holds with errors: ``refuse`` returns one for a key, or None."""

    def __init__(self, events: EventMap) -> None:
        self.events = events
        self.calls: list[str] = []
        self.refuse: Callable[[str], Exception | None] = lambda key: None

    def hold(self, key: str, value: object) -> Deferred[Hold]:
        """As EventMap.hold."""
        self.calls.append(key)
        error = self.refuse(key)
        return self.events.hold(key, value) if error is None else fail(error)


class Table:
    """A mountinfo file of our own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._mounts: dict[str, tuple[str, str, str]] = {}
        self._write()

    def mount(self, target: str, source: str = "none", fstype: str = "tmpfs", options: str = "rw,nosuid") -> None:
        """Write another line, or the same one anew (a remount)."""
        self._mounts[target] = (source, fstype, options)
        self._write()

    def umount(self, target: str) -> None:
        """Strike a line."""
        del self._mounts[target]
        self._write()

    def _write(self) -> None:
        lines = ["1 0 0:1 / / rw - proc proc rw\n"]
        numbers = {"": 1}
        for number, (target, (source, fstype, options)) in enumerate(self._mounts.items(), start=2):
            numbers[target] = number
            parent = max((each for each in numbers if target.startswith(f"{each}/")), key=len)
            # Octal for all but the plain: more than the kernel does, and read in the same way.
            spelled = "".join(
                chr(byte) if chr(byte) in PLAIN else f"\\{byte:03o}"
                for byte in target.encode("utf-8", "surrogateescape")
            )
            lines.append(
                f"{number} {numbers[parent]} 0:{number} / {spelled} {options} - {fstype} {source} rw,size=1k\n"
            )
        self.path.write_text("".join(lines))
