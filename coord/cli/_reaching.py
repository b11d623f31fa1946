"""The way to a server that is to be looked at: a replica is named at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import coord

if TYPE_CHECKING:
    from coord.cli._running import Job

__all__ = ["reach"]

# How often we look why there is no link yet.
_LOOK_AGAIN: Final = 0.1
_REPLICA: Final = "the server is a replica"


async def reach(job: Job) -> None:
    """Reach the server; a replica is no reason to wait for the whole time."""
    from twisted.internet.defer import Deferred
    from twisted.internet.task import LoopingCall

    reached: Deferred[None] = Deferred.fromCoroutine(job.reach())

    def look() -> None:
        # Twice, for it may be on its way to become the primary.
        if job.coordinator.reason == _REPLICA and job.coordinator.statistics().connection_attempts > 1:
            reached.cancel()

    looking = LoopingCall(look)
    looking.clock = job.reactor
    looking.start(_LOOK_AGAIN, now=False)
    try:
        await reached
    except BaseException:
        if job.coordinator.reason == _REPLICA:
            raise coord.Unreachable(
                f"{job.coordinator.server} is a replica, which takes no calls: name its primary, which"
                " INFO replication there tells, or the Sentinels that know it"
            ) from None
        raise
    finally:
        looking.stop()
