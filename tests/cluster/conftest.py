"""One real cluster of each kind for all tests of this folder, and those in memory; each test finds one whole."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from cluster.in_memory import MemoryServers
from cluster.moving import Step
from cluster.real import RealCluster
from failover.processes import binary

_real: dict[str, RealCluster] = {}


@pytest.fixture(scope="session", autouse=True)
def _end() -> Iterator[None]:
    yield
    for servers in _real.values():
        servers.close()


def _servers(kind: str) -> RealCluster:
    if binary(kind) is None:
        pytest.skip(f"there is no {kind} here")
    if kind not in _real:
        _real[kind] = RealCluster(kind)
    return _real[kind]


@pytest.fixture(params=["valkey", "redis"])
def real(request: pytest.FixtureRequest) -> RealCluster:
    """Return a real cluster; `heal` has it whole."""
    return _servers(request.param)


_IN_MEMORY = ("memory valkey", "memory redis")
_REAL = ("valkey", "redis")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run moves on each kind of cluster: at each step in memory, and, by default, at one step on real servers."""
    long = metafunc.config.getoption("--cluster-seconds") > 0
    if "step" in metafunc.fixturenames:
        pairs = [(kind, step) for kind in _IN_MEMORY for step in Step]
        pairs += [(kind, step) for kind in _REAL for step in Step if long or step is Step.LAST_KEY]
        names = [f"{kind}-{step.name}" for kind, step in pairs]
        metafunc.parametrize(("servers", "step"), pairs, indirect=["servers"], ids=names)
    elif "servers" in metafunc.fixturenames:
        lasting = metafunc.definition.get_closest_marker("lasting") and not long
        metafunc.parametrize("servers", _IN_MEMORY[:1] if lasting else _IN_MEMORY + _REAL, indirect=True)


@pytest.fixture
def servers(request: pytest.FixtureRequest) -> Any:
    """Return a cluster of any kind; `heal` has it whole."""
    memory, _, flavour = request.param.partition(" ")
    return MemoryServers("valkey" if flavour == "valkey" else "redis") if flavour else _servers(memory)


@pytest.fixture
def cluster_seconds(request: pytest.FixtureRequest) -> float:
    """Return how long faults go on, if at all."""
    seconds: float = request.config.getoption("--cluster-seconds")
    return seconds
