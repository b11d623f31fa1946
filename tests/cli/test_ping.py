"""`coord ping`, as a process."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest

from cli.processes import RedisServer, Shell
from security.rules import rule

Start = Callable[..., RedisServer]
At = Callable[[str], Shell]


def test_a_usable_server_is_0(shell: Shell, shared_server: RedisServer) -> None:
    """It prints the address and how long an answer takes; as JSON for monitoring; or nothing."""
    ended = shell.run("ping")
    assert (ended.status, ended.err) == (0, "")
    assert re.fullmatch(re.escape(shared_server.url) + r" answers in \d+\.\d\d ms\n", ended.out)
    report = json.loads(shell.run("ping", "--json").out)
    assert report.keys() == {"server", "round_trip"}
    assert 0 < report["round_trip"] < 10
    assert shell.run("ping", "-q") == (0, "", "")


def test_it_writes_nothing(own_server: Start, shell_at: At) -> None:
    """The server has as few keys afterwards as before."""
    server = own_server()
    assert shell_at(server.url).run("ping", "-q").status == 0
    assert server.do("DBSIZE") == b":0\r\n"


def test_what_is_found_is_the_exit_code(own_server: Start, shell_at: At) -> None:
    """Not there, hanging, and a replica are 69, each in words of its own; no access is 77."""
    server = own_server("--requirepass", "secret")
    shell = shell_at(server.url)
    quickly = ("ping", "--connect-timeout", "500ms")
    denied = shell.run(*quickly)
    assert (denied.status, denied.out) == (77, "")
    shell.env["COORD_PASSWORD"] = "secret"
    assert shell.run("ping").status == 0
    server.hang()
    hanging = shell.run(*quickly)
    assert (hanging.status, hanging.out) == (69, "")
    assert "within 0.5s" in hanging.err
    server.stop()
    gone = shell.run(*quickly)
    assert gone.status == 69
    assert gone.err.startswith(f"coord: no server at {server.url} within 0.5s: ")


def test_a_replica_is_69_at_once(own_server: Start, shell_at: At) -> None:
    """A replica takes no calls: it is named without waiting for the whole time."""
    replica = own_server("--replicaof", "127.0.0.1", "1")
    ended = shell_at(replica.url).run("ping", "-q", "--connect-timeout", "30s")
    assert (ended.status, ended.out) == (69, "")
    assert "is a replica" in ended.err


@pytest.mark.parametrize(("rules", "status"), [((), 0), (("-hget",), 77), (("-publish",), 77)], ids=str)
def test_a_nodes_user_may_ping(own_server: Start, shell_at: At, rules: tuple[str, ...], status: int) -> None:
    """The documented rule is enough; who may not read or hear is told so."""
    server = own_server()
    server.do("ACL", "SETUSER", "joe", *rule("ns", "secret"), *rules)
    shell = shell_at(server.url.replace("unix://", "unix://joe@"))
    shell.env |= {"COORD_PASSWORD": "secret", "COORD_NAMESPACE": "ns"}
    assert shell.run("ping", "-q").status == status
