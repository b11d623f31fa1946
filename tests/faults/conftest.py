"""The options of the fault suite, and its servers."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from failover.processes import binary
from faults.alone import LoneServer


@pytest.fixture
def fault_rounds(request: pytest.FixtureRequest) -> int:
    """Return how many rounds of faults there are on each server."""
    return int(request.config.getoption("--fault-rounds"))


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """Return the number that decides the schedule."""
    given = request.config.getoption("--fault-seed")
    return int.from_bytes(os.urandom(4)) if given is None else int(given)


@pytest.fixture(scope="session", params=["valkey", "redis"])
def server(request: pytest.FixtureRequest) -> Iterator[LoneServer]:
    """Give a server; `LoneServer.begin` has it as new."""
    if binary(request.param) is None:
        pytest.skip(f"there is no {request.param} here")
    server = LoneServer(request.param)
    yield server
    server.close()
