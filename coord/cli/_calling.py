"""Make calls in order, print their outcomes and report their errors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

import coord
from coord.cli import _printing as printing
from coord.cli._acks import Wanted, acknowledged
from coord.cli._durations import remaining
from coord.cli._entries import Entry
from coord.cli._exits import CORRUPT, DONE, NOT_FIRST, status_of
from coord.cli._job import Job
from coord.cli._talk import say
from coord.core.quoting import quoted

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred
    from twisted.python.failure import Failure

    from coord import Applied, EventMap, Record

__all__ = ["Report", "move_end", "remove_foreign", "reset_prefix", "send", "send_for_acks"]

_AT_ONCE: Final = 1000
"""How many calls are in flight at a time: enough to fill batches, few enough to hold in memory."""

Make = Callable[["EventMap", Entry], "Deferred[Applied]"]


class Report(NamedTuple):
    """How outcomes are reported.

    ``exit_code``: a call that was not the first sets the exit code. ``ttl``: an event whose call was the first ends
    after so many seconds.
    """

    as_json: bool
    quiet: bool
    exit_code: bool
    ttl: float | None = None

    async def tell(self, job: Job, map_name: str, key: str, outcome: Applied, *, named: bool) -> int:
        """Print an outcome, with its key if there are several (``named``); return its exit code."""
        if self.quiet:
            pass
        elif self.as_json:
            await self.json(job, map_name, key, outcome.record, first=outcome.first, **_count(outcome))
        else:
            word = "first" if outcome.first else "already"
            word = str(_count(outcome).get("count", word))
            await job.output.line(f"{printing.in_line(key)}\t{word}" if named else word)
            record = outcome.record
            if not outcome.first and record is not None and record.token is not None:
                say(f"{quoted(key)} is a lock that {record.node} owns; coord reset --evict asks it to release that")
            elif not outcome.first and record is not None and record.held:
                say(f"{quoted(key)} is held by {record.node}: nothing changes; coord reset --evict ends that")
        return self.status(first=outcome.first)

    async def json(
        self, job: Job, map_name: str, key: str, record: Record | None, *, first: bool, **more: object
    ) -> None:
        """Print the record after a call as JSON, with ``more`` fields."""
        expires = {"expires_in": self.ttl} if first and self.ttl is not None else {}
        await job.output.line(printing.record_json(map_name, key, record, **expires, first=first, **more))

    def status(self, *, first: bool) -> int:
        """Return the exit code of a call that has changed something (``first``), or not."""
        return NOT_FIRST if self.exit_code and not first else DONE


async def send(job: Job, map_name: str, entries: Sequence[Entry], make: Make, report: Report) -> int:
    """Make a call for each of ``entries``, in order; return the highest exit code.

    A single call of the command line raises its error. Other calls report theirs, with the line or key, and the next
    calls go on; but nothing more is sent once the server is unreachable.
    """
    events = job.coordinator.events(map_name)
    named = len(entries) != 1 or bool(entries[0].where)
    worst = DONE
    for start in range(0, len(entries), _AT_ONCE):
        some = entries[start : start + _AT_ONCE]
        calls = [make(events, entry) for entry in some]
        for entry, result in zip(some, await _outcomes(job, calls, first=not start), strict=True):
            if not isinstance(result, coord.Error):
                worst = max(worst, await report.tell(job, map_name, entry.key, result, named=named))
            elif named:
                worst = max(worst, status_of(result))
                say(f"{entry.where or quoted(entry.key)}: {result}")
            else:
                raise result
        if isinstance(result, coord.Unreachable | coord.Unconfirmed) and entries[start + _AT_ONCE :]:
            say(f"nothing after {entry.where or quoted(entry.key)} was sent")
            break
    return worst


async def send_for_acks(job: Job, map_name: str, entry: Entry, make: Make, report: Report, wanted: Wanted) -> int:
    """Make a call, and wait until it is acknowledged; return the highest exit code."""
    outcome = await job.first_answer(make(job.coordinator.events(map_name), entry), patience=None)
    status = await report.tell(job, map_name, entry.key, outcome, named=False)
    assert outcome.record is not None
    return max(status, await acknowledged(job, outcome.record, wanted, quiet=report.quiet))


def _count(outcome: Applied) -> dict[str, int]:
    """Return the count after a call, as a field; none if it was no count."""
    return {"count": outcome.count} if isinstance(outcome, coord.Counted) else {}


async def move_end(job: Job, map_name: str, key: str, ttl: float, options: dict[str, Any], report: Report) -> int:
    """Have an event end ``ttl`` seconds from now; print what that did; return the exit code."""
    events = job.coordinator.events(map_name)
    outcome = await job.first_answer(events.expire(key, ttl, **options), patience=None)
    record = outcome.record
    if not outcome.first and record is not None and record.latched:
        # Its end may have passed already: only a query says so.
        record = await job.answer(events.record(key))
    if report.as_json and not report.quiet:
        await report.json(job, map_name, key, record, first=outcome.first)
    elif not report.quiet:
        await job.output.line(_what_expire_did(record, ttl, first=outcome.first))
    return report.status(first=outcome.first)


def _what_expire_did(record: Record | None, ttl: float, *, first: bool) -> str:
    if first:
        return f"ends in {remaining(ttl)}"
    if record is None or not record.latched:
        return "pending: nothing to expire"
    return "has no TTL: nothing changes; coord reset ends it"


async def _outcomes(job: Job, calls: Sequence[Deferred[Applied]], *, first: bool) -> list[Applied | coord.Error]:
    """Wait for all calls, and with ``first`` for the server too. Raise any error that is not one of coord's."""
    from twisted.internet.defer import DeferredList

    answers: Deferred[Any] = DeferredList(calls, consumeErrors=True)
    results = await (job.first_answer(answers, patience=None) if first else answers)
    return [result if good else _error(result) for good, result in results]


def _error(failure: Failure) -> coord.Error:
    if not isinstance(failure.value, coord.Error):
        raise cast("Exception", failure.value)
    return failure.value


async def reset_prefix(job: Job, map_name: str, prefix: str, options: dict[str, Any], report: Report) -> int:
    """Reset the fired and failed keys and the counters under ``prefix``, page by page; return the highest exit code."""
    events = job.coordinator.events(map_name)
    worst = DONE
    after = None

    def make(events: EventMap, entry: Entry) -> Deferred[Applied]:
        return events.reset(entry.key, **options)

    while True:
        page = await job.first_answer(events.page(prefix, after))
        entries = [Entry(quoted(record.key), record.key, None) for record in page.records if _resets(record)]
        worst = max(worst, await send(job, map_name, entries, make, report))
        for broken in page.corrupt:
            worst = max(worst, CORRUPT)
            say(f"{quoted(broken)}: its record in Redis was not written by coord; reset it by its name")
        after = page.next
        if after is None:
            return worst


def _resets(record: Record) -> bool:
    """Whether a reset changes the key of this record."""
    return record.latched or record.count is not None


async def remove_foreign(job: Job, map_name: str, report: Report) -> int:
    """Remove the names that are not valid keys, and print them."""
    for name in await job.first_answer(job.coordinator.events(map_name).remove_foreign()):
        if report.as_json:
            await job.output.line(printing.json_text({"map": map_name, "removed": name}))
        elif not report.quiet:
            await job.output.line(printing.in_line(name) or repr(name))
    return DONE
