"""Acknowledgements in the shell: `coord fire --acks`, `coord ack`, `coord on --ack`."""

from __future__ import annotations

import json
import signal
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, succeed

from cli.processes import Ended, Process, Shell
from coord import MEMBERS, Acks, Unacknowledged
from coord.cli._acks import Wanted, acknowledged
from coord.cli._talk import finish


def _typed(shell: Shell, *words: str) -> Ended:
    assert shell.typist is not None
    return shell.typist.type(words, shell.env)


def _revision(shell: Shell, key: str = "k") -> str:
    revision: str = json.loads(_typed(shell, "get", "m", key, "--json").out)["revision"]
    return revision


def _handler(shell: Shell, node: str, *options: str, script: str = "true") -> Process:
    words = ("on", "m", "--ack", *options, "--node", node, "--", "sh", "-c", script)
    return shell.start(*words).says("armed: watching map m")


def test_missing_names_one_a_line(shell: Shell) -> None:
    """The event is fired all the same; then those who acknowledge are named, also by a later call."""
    ended = _typed(shell, "fire", "m", "k", "--acks", "n2,n1", "--timeout", "1s")
    assert ended == (
        124,
        "first\n",
        "coord: missing: n1\ncoord: missing: n2\ncoord: k: fired, but not acknowledged within 1s\n",
    )
    assert _typed(shell, "ack", "m", "k", "--node", "n2") == (0, "", "")
    ended = _typed(shell, "fire", "m", "k", "--acks", "2", "--timeout", "1s", "-q")
    assert ended == (124, "", "coord: k: fired, but acknowledged by 1 of 2 only within 1s\n")
    assert _typed(shell, "ack", "m", "k", _revision(shell), "--node", "n1").status == 0
    assert _typed(shell, "fire", "m", "k", "--acks", "n2,n1") == (0, "already\n", "coord: acknowledged by n1, n2\n")
    assert _typed(shell, "fire", "m", "k", "--acks", "2", "-q", "--exit-code") == (1, "", "")


def test_members(shell: Shell) -> None:
    """`on --join` is one, and acknowledges what its command has done; without any, nobody does."""
    ended = _typed(shell, "pulse", "m", "k", "--acks", "members", "--once", "x")
    assert ended == (124, "first\n", "coord: k: pulsed, but not acknowledged: there are no members\n")
    n1 = _handler(shell, "n1", "--join", script="echo did $COORD_KEY")
    n2 = _handler(shell, "n2", "--join", "--keep-going", script="echo no; exit 7")
    ended = _typed(shell, "fire", "m", "k", "--acks", "members", "--timeout", "2s")
    assert ended.status == 124
    assert "coord: missing: n2\n" in ended.err
    n1.prints("did k")
    n2.prints("no")
    assert n2.end(signal.SIGTERM).status == 143
    assert _typed(shell, "fire", "m", "k", "--acks", "members") == (0, "already\n", "coord: acknowledged by n1\n")
    assert n1.end(signal.SIGTERM).status == 143
    ended = _typed(shell, "fire", "m", "k", "--acks", "members", "--timeout", "1s")
    assert (ended.status, ended.out) == (124, "already\n")


def test_who_has_left_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    """Though it is not waited for; with -q only if nobody is left."""
    ends: list[Any] = [Acks(("n1",), (), ("n2", "n3")), Acks(("n1",), (), ("n2",)), Unacknowledged("", left=("n2",))]
    events = SimpleNamespace(acked=lambda *_: succeed(ends[0]) if isinstance(ends[0], Acks) else fail(ends[0]))
    job: Any = SimpleNamespace(coordinator=SimpleNamespace(events=lambda _: events), patient=nullcontext)
    record: Any = SimpleNamespace(map="m", key="k", kind="fired")
    told = [
        (0, "coord: left: n2\ncoord: left: n3\ncoord: acknowledged by n1\n"),
        (0, ""),
        (124, "coord: left: n2\ncoord: k: fired, but not acknowledged: all have left\n"),
    ]
    for quiet, (status, said) in zip((False, True, True), told, strict=True):
        seen: list[int] = []
        waiting = acknowledged(job, record, Wanted(MEMBERS, 1.0), quiet=quiet)
        Deferred.fromCoroutine(waiting).addCallback(seen.append)
        finish()
        assert (seen, capfd.readouterr().err) == ([status], said)
        del ends[0]


def test_only_what_wakes_is_acknowledged(shell: Shell) -> None:
    """A reset is handled, and not acknowledged; a change that is not there cannot be."""
    handler = _handler(shell, "n1", script="echo $COORD_KIND")
    for words in (("fire", "m", "k", "--acks", "1"), ("pulse", "m", "k", "--acks", "n1"), ("fail", "m", "j", "no")):
        assert _typed(shell, *words).status == 0
    assert _typed(shell, "fire", "m", "j", "--acks", "n1", "-q") == (0, "", "")
    revision = _revision(shell, "j")
    _typed(shell, "reset", "m", "j")
    handler.prints("reset\n")
    assert handler.end(signal.SIGTERM).out == "fired\npulsed\nfailed\nreset\n"
    ended = _typed(shell, "ack", "m", "j")
    assert ended == (2, "", "coord: record: j is reset: there is nothing to acknowledge\n")
    assert _typed(shell, "ack", "m", "j", revision).status == 0
    assert _typed(shell, "ack", "m", "j", "9999999999999999.1") == (
        3,
        "",
        "coord: j has no change 9999999999999999.1\n",
    )
    assert _typed(shell, "ack", "m", "x") == (3, "", "coord: x has no record\n")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("fire", "m", "k", "--acks", "0"), "a number from 1 on, not 0"),
        (("fire", "m", "k", "--acks", ""), "node '': a name is 1 to 128 letters"),
        (("pulse", "m", "k", "--acks", "n1,a/b"), "node 'a/b': a name is"),
        (("fire", "m", "--from", "-", "--acks", "1"), "--acks needs KEY: --from has several"),
        (("ack", "m", "k", "7"), "revision '7': a revision is GENERATION.NUMBER"),
    ],
)
def test_bad_input_is_refused(shell: Shell, words: tuple[str, ...], text: str) -> None:
    """Before anything is sent."""
    ended = shell.run(*words, stdin=b"k\n")
    assert (ended.status, ended.out) == (2, "")
    assert text in ended.err
    assert _typed(shell, "get", "m", "k").status == 3
