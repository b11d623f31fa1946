"""``--since 1h``: older changes are skipped."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from coord import Revision
    from coord.cli._job import Job

__all__ = ["beginning", "cutoff"]


def beginning(since: str | Revision | float | None) -> str | Revision:
    """Return the ``since`` of the watch."""
    return "start" if isinstance(since, float) else since or "now"


async def cutoff(job: Job, map_name: str, since: str | Revision | float | None) -> float:
    """Return the time, in seconds of the map's server's clock, before which changes are skipped."""
    if not isinstance(since, float):
        return 0.0
    seconds, microseconds = await job.answer(job.coordinator.execute("TIME", at=map_name))
    return int(seconds) + int(microseconds) / 1e6 - since
