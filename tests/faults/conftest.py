"""The options of the fault suite."""

from __future__ import annotations

import os

import pytest


@pytest.fixture
def fault_rounds(request: pytest.FixtureRequest) -> int:
    """Return how many rounds of faults there are on each server."""
    return int(request.config.getoption("--fault-rounds"))


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """Return the number that decides the schedule."""
    given = request.config.getoption("--fault-seed")
    return int.from_bytes(os.urandom(4)) if given is None else int(given)
