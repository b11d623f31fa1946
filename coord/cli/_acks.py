"""``--acks``: who has to acknowledge a change, and the wait for that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

import click

import coord
from coord.cli._durations import spell
from coord.cli._exits import DONE, TIMED_OUT
from coord.cli._job import Job
from coord.cli._talk import say
from coord.cli._values import whole_number
from coord.core.quoting import quoted

if TYPE_CHECKING:
    from coord import Record

__all__ = ["ACKS", "Wanted", "acknowledged"]

By = tuple[str, ...] | int | str

# In seconds, as of calls: the default deadline, and the longest.
_DEADLINE: Final = 30.0
_LONGEST: Final = 600.0


class _Acks(click.ParamType["By"]):
    name = "who"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> By:
        # It imports Twisted, as naming an error does.
        from coord.core.names import MEMBERS, check_name

        if value == "members":
            return MEMBERS
        number = whole_number(value)
        if isinstance(number, int):
            return number if 1 <= number <= 1_000_000 else self.fail(f"a number from 1 on, not {value}", param, ctx)
        try:
            return tuple(check_name("node", name) for name in value.split(","))
        except coord.InvalidName as error:
            self.fail(str(error), param, ctx)


ACKS: Final = _Acks()


class Wanted(NamedTuple):
    """Who has to acknowledge, and within how many seconds."""

    by: By
    timeout: float

    @classmethod
    def of(cls, by: By, options: dict[str, Any]) -> tuple[Self, dict[str, Any]]:
        """Return this for a call with these options, and the options of the call itself."""
        timeout = options.get("timeout", _DEADLINE)
        return cls(by, timeout), {**options, "timeout": min(timeout, _LONGEST)}


async def acknowledged(job: Job, record: Record, wanted: Wanted, *, quiet: bool) -> int:
    """Wait for the acknowledgements of a change, and say who has and who has not; return the exit code."""
    try:
        with job.patient():
            acks = await job.coordinator.events(record.map).acked(record, wanted.by, wanted.timeout)
    except coord.Unacknowledged as error:
        _say_each("missing", error.missing)
        _say_each("left", error.left)
        say(f"{quoted(record.key)}: {record.kind}, but {_why(error, wanted)}")
        return TIMED_OUT
    if not quiet:
        _say_each("left", acks.left)
        say(f"acknowledged by {', '.join(acks.names)}")
    return DONE


def _say_each(word: str, names: tuple[str, ...]) -> None:
    for name in names:
        say(f"{word}: {name}")


def _why(error: coord.Unacknowledged, wanted: Wanted) -> str:
    within = f"within {spell(wanted.timeout)}"
    if isinstance(wanted.by, int):
        return f"acknowledged by {len(error.names)} of {wanted.by} only {within}"
    if error.missing:
        return f"not acknowledged {within}"
    if error.left:
        return "not acknowledged: all have left"
    # There are no members, or their server was not reached.
    return "not acknowledged" + str(error).rpartition(": not acknowledged")[2]
