"""Runs async tests on the reactor, and gives them a cluster on each kind of server."""

from __future__ import annotations

import gc
import inspect
from collections.abc import Iterator
from typing import Any

import pytest

from support.cases import Case, run_case
from support.cluster import Cluster
from support.figures import pytest_sessionfinish as pytest_sessionfinish
from support.figures import pytest_terminal_summary as pytest_terminal_summary
from support.figures import pytest_testnodedown as pytest_testnodedown
from support.servers import KINDS, close_servers, server_of
from support.timers import no_timers_of_the_reactors

DEADLINE = 30.0
LONGEST = (
    "docs/test_pages.py",
    "faults/test_faults.py",
    "web/page/test_page.py",
    "simulation/test_simulation.py",
    "doors/test_contract.py",
    "cli/test_demo.py",
    "web/test_stream_faults.py",
    "web/test_document.py",
)
"""The files that take longest."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare our options."""
    parser.addoption("--full-hang", action="store_true", help="hang servers for 12 s, with the default heartbeat")
    parser.addoption("--servers", default=",".join(KINDS), help="kinds of server to run on, restricted among them")
    parser.addoption("--failovers", type=int, default=3, help="how many failovers the loss counts go through")
    parser.addoption("--fuzz-requests", type=int, default=1_200, help="how many strange requests the gateway gets")
    parser.addoption("--fault-rounds", type=int, default=10, help="rounds of faults on each kind of real server")
    parser.addoption("--lease-schedules", type=int, default=4, help="how many schedules leases go through in memory")
    parser.addoption("--stream-schedules", type=int, default=8, help="how many schedules streams go through in memory")
    parser.addoption("--stream-rounds", type=int, default=4, help="how many schedules streams go through in processes")
    parser.addoption("--poll-schedules", type=int, default=8, help="schedules of cut polls over HTTP, of each kind")
    parser.addoption("--document-examples", type=int, default=1, help="requests of each kind made from the document")
    parser.addoption("--cluster-seconds", type=float, default=0, help="seconds of faults on each real cluster")
    parser.addoption("--fault-seed", help="the seed of the faults' schedule, as a failing run has printed it")


def pytest_configure(config: pytest.Config) -> None:
    """Declare our marks."""
    config.addinivalue_line("markers", "servers(*kinds): run on these kinds of server only")
    config.addinivalue_line("markers", "unrestricted: uses what the documented access rule does not allow")
    config.addinivalue_line("markers", "own_interpreter: start each `coord` as a user does, and do not fork it")
    config.addinivalue_line("markers", "lasting: on one kind of cluster only, unless --cluster-seconds is given")
    config.addinivalue_line("markers", "deadline(seconds): how long an async test may take")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run whatever wants a cluster on each kind of server."""
    if "cluster" in metafunc.fixturenames:
        mark = metafunc.definition.get_closest_marker("servers")
        chosen = metafunc.config.getoption("--servers").split(",")
        able = {*mark.args, *(["restricted"] if "valkey" in mark.args else [])} if mark else {*chosen}
        if metafunc.definition.get_closest_marker("unrestricted"):
            able.discard("restricted")
        metafunc.parametrize("cluster", [kind for kind in chosen if kind in able], indirect=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Have the longest files run first, lest the last worker runs one of them alone."""
    tests = config.rootpath / "tests"
    places = {tests / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


def pytest_collection_finish() -> None:
    """Have the garbage collector leave alone what is there for all tests; it takes longer than many a test."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _servers() -> Iterator[None]:
    yield
    close_servers()


@pytest.fixture(scope="session", autouse=True)
def _steady() -> Iterator[None]:
    with no_timers_of_the_reactors():
        yield


@pytest.fixture
def full_hang(request: pytest.FixtureRequest) -> bool:
    """Return whether to hang servers for as long as the heartbeat's default needs."""
    return bool(request.config.getoption("--full-hang"))


@pytest.fixture
def cluster(request: pytest.FixtureRequest) -> Cluster:
    """Return a cluster without nodes; it begins when the test does."""
    server = server_of(request.param)
    if isinstance(server, str):
        pytest.skip(server)
    return Cluster(server)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> object:
    """Run async test functions; others are not ours."""
    __tracebackhide__ = True
    function = pyfuncitem.obj
    if not inspect.iscoroutinefunction(function):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    arguments = {name: pyfuncitem.funcargs[name] for name in names}
    mark = pyfuncitem.get_closest_marker("deadline")

    async def body(case: Case) -> None:
        for argument in arguments.values():
            if isinstance(argument, Cluster):
                await _with(argument, case)
        await function(**arguments)

    run_case(Case(pyfuncitem.nodeid, body, mark.args[0] if mark else DEADLINE))
    return True


async def _with(cluster: Cluster, case: Case) -> None:
    def end() -> Any:
        from twisted.internet.defer import Deferred

        return Deferred.fromCoroutine(cluster.end())

    case.addCleanup(end)
    await cluster.begin(case)
