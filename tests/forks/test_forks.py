"""Forks: two processes are two nodes. A copy in a child is ended, and the parent notices nothing."""

from __future__ import annotations

import json
import os
import pickle
import sys
from copy import copy, deepcopy
from pathlib import Path
from typing import Any, Final

import pytest
from twisted.internet.utils import getProcessOutputAndValue

from security.certificates import Authority
from security.fronts import front
from support.cluster import Cluster

pytestmark = [pytest.mark.servers("valkey"), pytest.mark.deadline(60)]

_PROGRAMS: Final = str(Path(__file__).with_name("programs.py"))
_ENDED: Final = "Closed: made before a fork: connect in the child"
_REACTORS: Final = ("epoll", "select", "poll", "asyncio")

Told = dict[str, dict[str, Any]]


async def _run(cluster: Cluster, program: str, reactor: str = "epoll", url: str = "") -> Told:
    """Return what each process of a program said. None of them may say anything on stderr."""
    words = (_PROGRAMS, program, url or str(cluster.server.address()), reactor)
    out, err, status = await getProcessOutputAndValue(sys.executable, words, env=dict(os.environ))
    assert (err.decode(), status) == ("", 0)
    said = [json.loads(line) for line in out.splitlines()]
    return {line.pop("who"): line for line in said}


async def _keys(cluster: Cluster) -> set[str]:
    """Return the keys that stand on the server."""
    fields: list[bytes] = await cluster.server.command("HKEYS", "coord:{default/m}")
    return {field.decode() for field in fields if not field.startswith(b"\0")}


def _noticed_nothing(parent: dict[str, Any]) -> None:
    """Whether the parent has gone on as if there had been no fork."""
    assert parent == {
        "answers": ["first", "first"],
        "armed": ["7"],
        "states": ["connected"],
        "end": "",
        "clients": 2,
    }


def _all_is_there(told: Told, keys: set[str]) -> None:
    """Whether there is what was acknowledged (F1), and nothing else of these keys (F2, F3)."""
    acknowledged = {
        key
        for said in told.values()
        for key, answer in zip(said.get("keys", ()), said.get("answers", ()), strict=False)
        if answer == "first"
    }
    assert acknowledged == keys - {"armed", "of the parent", "on its way", "of the child"}


@pytest.mark.parametrize("reactor", _REACTORS)
async def test_a_copy_made_before_the_reactor_ran_is_ended(cluster: Cluster, reactor: str) -> None:
    """Connect, fork twice, run three reactors: the children's calls end as not applied, the parent's are applied."""
    told = await _run(cluster, "before_running", reactor)
    _all_is_there(told, await _keys(cluster))
    assert told["one"]["answers"] == told["two"]["answers"] == [_ENDED] * 4
    _noticed_nothing(told["parent"])


@pytest.mark.parametrize("reactor", _REACTORS)
async def test_a_child_that_connects_is_a_node_of_its_own(cluster: Cluster, reactor: str) -> None:
    """Each child connects in the reactor that it got from its parent: twelve keys, twelve times first."""
    told = await _run(cluster, "anew", reactor)
    _all_is_there(told, await _keys(cluster))
    assert told["one"]["answers"] == told["two"]["answers"] == ["first"] * 4
    _noticed_nothing(told["parent"])


async def test_preloaded(cluster: Cluster) -> None:
    """A server that loads its application before it forks workers: they connect when they are there."""
    told = await _run(cluster, "preload")
    _all_is_there(told, await _keys(cluster))
    for name in ("one", "two"):
        assert told[name]["answers"] == [_ENDED] * 4
        assert told[f"{name} anew"]["answers"] == ["first"] * 4


@pytest.mark.parametrize("reactor", _REACTORS)
async def test_a_fork_inside_a_callback(cluster: Cluster, reactor: str) -> None:
    """What was pending ends in the child, which goes on in its parent's reactor; the parent's goes on."""
    told = await _run(cluster, "while_running", reactor)
    _all_is_there(told, await _keys(cluster))
    child = told["child"]
    assert child["how"] == dict.fromkeys(
        ("armed", "unarmed", "call", "calls", "all", "late", "link", "wait", "fire", "record", "connected"), _ENDED
    )
    assert (child["link"], f"Closed: {child['reason']}", child["end"]) == ("closed", _ENDED, _ENDED)
    assert told["one"]["answers"] == ["first"] * 4
    _noticed_nothing(told["parent"])


async def test_a_child_that_forks_again(cluster: Cluster) -> None:
    """The grandchild's copy is ended too, and the child notices nothing of that."""
    told = await _run(cluster, "grandchild")
    _all_is_there(told, await _keys(cluster))
    assert told["one"]["answers"] == ["first"] * 4
    assert told["two"]["answers"] == [_ENDED] * 4
    assert told["two anew"]["answers"] == ["first"] * 4
    assert told["child"]["woken"] == ["True"]
    _noticed_nothing(told["parent"])


@pytest.mark.parametrize("program", ["processes", "in_a_thread"])
async def test_a_child_that_runs_no_reactor(cluster: Cluster, program: str) -> None:
    """A child of multiprocessing, or of a thread: what it asks for is ended at once, what was pending says nothing."""
    told = await _run(cluster, program)
    assert told["child"] == {"link": "closed", "wait": _ENDED, "armed": False, "shared": 0}
    _noticed_nothing(told["parent"])


async def test_another_program_is_no_fork(cluster: Cluster) -> None:
    """Programs that are started, in whatever way, disturb nothing."""
    _noticed_nothing((await _run(cluster, "other_programs"))["parent"])


async def test_a_fork_that_python_does_not_know_of(cluster: Cluster) -> None:
    """A library in C forks: the child's call is not sent under the parent's name, and ends as it does elsewhere."""
    told = await _run(cluster, "unknown_to_python")
    _all_is_there(told, await _keys(cluster))
    assert told["one"]["answers"] == told["two"]["answers"] == [_ENDED] * 4
    _noticed_nothing(told["parent"])


async def test_a_copy_by_pickle_is_refused(cluster: Cluster) -> None:
    """A node that is pickled or copied would be two: what holds one cannot be."""
    node = cluster.node()
    events = node.events("m")
    for thing in (node, events, events.watch()):
        with pytest.raises(TypeError, match="connect in the other process"):
            pickle.dumps(thing)
        with pytest.raises(TypeError, match="connect in the other process"):
            deepcopy(thing)
    # Two views of one node are no two nodes.
    assert copy(node).events("m") is events


# The front is the test's own: Twisted (26.10) gives pyOpenSSL (26) its certificate in a deprecated way.
@pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")
@pytest.mark.parametrize("program", ["anew", "while_running"])
async def test_over_tls_and_by_name(cluster: Cluster, program: str, tmp_path: Path) -> None:
    """The goodbye of TLS is not said in the parent's name; a child that resolves a name is woken itself."""
    pytest.importorskip("OpenSSL", reason="the extra tls is not installed")
    authority = Authority(tmp_path, "authority")
    async with front(cluster.server.endpoint(), authority.vouch("server", "localhost", "127.0.0.1")) as port:
        # In a child that goes on in a running reactor, the threads that resolve names are not there any more.
        host = "localhost" if program == "anew" else "127.0.0.1"
        told = await _run(cluster, program, url=f"rediss://{host}:{port}?ca={authority.pair.cert}")
    _all_is_there(told, await _keys(cluster))
    assert told["one"]["answers"] == ["first"] * 4
    _noticed_nothing(told["parent"])
