"""Reach a server to examine it; a replica is reported at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import coord

if TYPE_CHECKING:
    from coord.cli._job import Job

__all__ = ["reach"]

# Seconds between checks of why there is no link yet.
_LOOK_AGAIN: Final = 0.1
_REPLICA: Final = "the server is a replica"


async def reach(job: Job) -> None:
    """Reach the server; for a replica, do not wait until the timeout."""
    from twisted.internet.defer import Deferred
    from twisted.internet.task import LoopingCall

    reached: Deferred[None] = Deferred.fromCoroutine(job.reach())

    def look() -> None:
        # Twice, because the replica may be about to become the primary.
        if job.coordinator.reason.startswith(_REPLICA) and job.coordinator.statistics().connection_attempts > 1:
            reached.cancel()

    looking = LoopingCall(look)
    looking.clock = job.reactor
    looking.start(_LOOK_AGAIN, now=False)
    try:
        await reached
    except BaseException:
        if job.coordinator.reason.startswith(_REPLICA):
            raise coord.Unreachable(
                f"{job.coordinator.server} is a replica, which accepts no calls: use its primary, which"
                " INFO replication on it or its Sentinels name"
            ) from None
        raise
    finally:
        looking.stop()
