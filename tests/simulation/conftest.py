"""How far to look."""

from __future__ import annotations

import pytest

SCHEDULES = 150


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--schedules``: name this folder on the command line, so that it is known in time."""
    parser.addoption("--schedules", type=int, default=SCHEDULES, help="how many schedules the simulation runs")


@pytest.fixture
def schedules(request: pytest.FixtureRequest) -> int:
    """Return how many schedules to run."""
    return int(request.config.getoption("--schedules", SCHEDULES))
