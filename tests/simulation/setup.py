"""What stays the same through one run, and how long deliveries take."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Setup", "delay_of"]


@dataclass(frozen=True, slots=True)
class Setup:
    """What stays the same through one run.

    ``latency`` names how long deliveries take, see `delay_of`; ``cache`` is the size of each live cache, ``batch`` how
    many calls travel together at most, ``padding`` how many bytes longer each value is. ``timed``: events have TTLs,
    and their ends are waited for; such schedules are a family of their own. So are those in which keys are ``held``,
    with this ``lease`` and ``grace`` time. ``counters``: so many keys of each map are counted on, in another family;
    ``locks``: so many are locks, in a third one, which has leases, too. ``careful``: a primary that is cut off takes no
    writes later than the grace time after another one is promoted (L7). ``acks``: so many names the nodes share, in a
    fourth one, in which nodes join the members, and changes are acknowledged. ``sharded``: there is a cluster of two
    shards, whose servers have the habits of these (`redis`, `valkey`).
    """

    seed: int
    nodes: int = 2
    maps: int = 1
    keys: int = 2
    latency: int = 1
    heartbeat: float = 2.0
    cache: int = 100
    batch: int = 256
    padding: int = 0
    timed: bool = False
    counters: int = 0
    locks: int = 0
    held: bool = False
    lease: float = 0.0
    grace: float = 0.0
    careful: bool = False
    acks: int = 0
    sharded: str = ""

    @property
    def pad(self) -> dict[str, str]:
        """What each value has in addition."""
        return {"pad": "." * self.padding} if self.padding else {}

    @property
    def slowest(self) -> float:
        """The longest that one delivery takes, in seconds."""
        return (0.0, 0.005, 0.3, 1.5)[self.latency]


def delay_of(latency: int, chance: int) -> float:
    """Return a delivery's delay in seconds, ``chance`` being any whole number."""
    part = (chance & 0xFFFF) / 0x10000
    pick = (chance >> 16) % 100
    match latency:
        case 0:
            return 0.0
        case 1:
            return part * 0.005
        case 2:
            return 0.0 if pick < 50 else part * (0.02 if pick < 90 else 0.3)
        case _:
            return part * (0.3 if pick < 96 else 1.5)
