"""`coord hold`, `coord holders`, `coord members`, and what other commands show of what is held."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from cli.processes import Process, Shell

QUICK = ("--lease", "1s", "--grace", "500ms")


def _held(shell: Shell, *words: str, node: str = "n1") -> Process:
    """Start a `coord hold` of the key k, and return once it holds."""
    return shell.start("hold", "m", "k", *words, "--node", node).says("coord: holding k of map m")


def _kinds(shell: Shell) -> list[str]:
    lines = shell.do("watch", "m", "--since", "start", "--no-follow", "-q", "--json").out.splitlines()
    return [f"{record['kind']}{'+' * record.get('passed', False)}" for record in map(json.loads, lines)]


def test_it_holds_while_the_command_runs(shell: Shell) -> None:
    """Its exit code is the command's; the key is latched meanwhile, and withdrawn afterwards."""
    ended = shell.run("hold", "m", "k", '{"at":1}', "--", "sh", "-c", 'echo "$COORD_KEY"; cat; exit 7', stdin=b"input")
    assert (ended.status, ended.out, ended.err) == (7, "k\ninput", "coord: holding k of map m\n")
    assert _kinds(shell) == ["fired", "withdrawn"]


def test_it_holds_until_it_is_interrupted(shell: Shell) -> None:
    """Others see that it is held; they cannot end it."""
    holding = _held(shell, "1")
    got = shell.do("get", "m", "k")
    assert got.out.split("\t")[:3] == ["k", "held", "1"]
    record = json.loads(shell.do("get", "m", "k", "--json").out)
    assert (record["kind"], record["held"], record["holders"], "passed" in record) == ("fired", True, 1, False)
    assert got.out.split("\t")[5] == "n1"
    said = "coord: k is held by n1: nothing changes; coord reset --evict ends that\n"
    for call in (("reset", "m", "k"), ("fire", "m", "k", "2")):
        assert shell.run(*call) == (0, "already\n", said)
    assert shell.do("wait", "m", "k").out == "1\n"
    assert holding.end(signal.SIGINT).status == 130
    assert shell.run("get", "m", "k").status == 3
    assert _kinds(shell) == ["fired", "withdrawn"]


def test_it_passes(shell: Shell) -> None:
    """The next holder takes over; `on` runs nothing for that unless it is asked to."""
    first = _held(shell, "1")
    second = shell.start("hold", "m", "k", "2", "--node", "n2").says("coord: holding k of map m, behind n1")
    lines = shell.do("holders", "m", "k").out.splitlines()
    assert [line.split("\t")[:2] for line in lines] == [["n1", "1"], ["n2", "2"]]
    assert [json.loads(line)["value"] for line in shell.do("holders", "m", "k", "--json").out.splitlines()] == [1, 2]
    for words in (("get", "m", "k"), ("ls", "m")):
        assert shell.do(*words).out.split("\t")[5] == "n1 +1"
        assert json.loads(shell.do(*words, "--json").out)["holders"] == 2
    assert first.end(signal.SIGTERM).status == 143
    assert json.loads(shell.do("get", "m", "k", "--json").out)["passed"] is True
    second.end(signal.SIGTERM)
    assert _kinds(shell) == ["fired", "fired+", "withdrawn"]
    show = ("--", "sh", "-c", 'echo "$COORD_KIND${COORD_PASSED+ passed}"; [ "$COORD_KIND" = fired ] || exit 9')
    assert shell.run("on", "m", "--since", "start", *show).out == "fired\nwithdrawn\n"
    assert shell.run("on", "m", "--since", "start", "--passings", *show).out == "fired\nfired passed\nwithdrawn\n"
    assert shell.run("holders", "m", "k").status == 3


def test_a_killed_holder_expires(shell: Shell) -> None:
    """Within its lease and grace times, and its command is ended at once."""
    holding = _held(shell, *QUICK, "--", "sh", "-c", "echo pid=$$; exec sleep 1000")
    cmd = int(holding.prints("\n").out.decode().removeprefix("pid="))
    waiting = shell.start("wait", "--gone", "m", "k").says("armed")
    holding.popen.kill()
    assert waiting.end().out.split("\t")[0] == "expired"
    assert not Path(f"/proc/{cmd}").exists()
    assert _kinds(shell) == ["fired", "expired"]


def test_an_eviction_ends_the_command(shell: Shell) -> None:
    """And coord exits with 5, within a heartbeat."""
    holding = _held(shell, *QUICK, "--", "sh", "-c", "echo ready; exec sleep 1000").prints("ready")
    assert shell.do("reset", "m", "k", "--evict").out == "first\n"
    ended = holding.end()
    assert ended.status == 5
    assert "k: its holders were evicted" in ended.err
    assert _kinds(shell) == ["fired", "reset"]
    assert shell.run("reset", "m", "k", "--evict", "--revision", "1.1").status == 2


def test_an_eviction_is_all_it_says(shell: Shell) -> None:
    """Nothing of a lease, however long the command takes to end."""
    command = "trap '' TERM; echo ready; while :; do sleep 0.1; done"
    holding = _held(shell, *QUICK, "--kill-after", "1s", "--", "sh", "-c", command).prints("ready")
    shell.do("reset", "m", "k", "--evict")
    ended = holding.end()
    assert (ended.status, ended.err) == (5, "coord: holding k of map m\ncoord: k: its holders were evicted\n")


def test_need(shell: Shell) -> None:
    """It says that more are needed; the others must agree."""
    first = shell.start("hold", "m", "k", "1", "--need", "2").says("coord: holding k of map m: pending until 2 hold it")
    other = shell.run("hold", "m", "k", "--need", "3", "--", "true")
    assert other.status == 2
    assert "its first holder said need=2" in other.err
    assert shell.do("hold", "m", "k", "2", "--need", "2", "--", "true").status == 0
    assert _kinds(shell) == ["fired", "withdrawn"]
    first.end(signal.SIGINT)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--need", "0"), "need: a whole number from 1"),
        (("--lease", "1ms"), "lease: a number of seconds from"),
        (("--lease", "2d"), "lease: a number of seconds from"),
        (("--grace", "1ms"), "grace: a number of seconds from"),
    ],
)
def test_bad_input_is_refused(shell: Shell, words: tuple[str, ...], text: str) -> None:
    """With a sentence, and without a command."""
    ended = shell.run("hold", "m", "k", *words, "--", "echo", "ran")
    assert (ended.status, ended.out) == (2, "")
    assert text in ended.err


def test_other_lease_times_are_refused(shell: Shell) -> None:
    """The sentence names both."""
    holding = _held(shell)
    ended = shell.run("hold", "m", "k", *QUICK, "--", "true")
    assert ended.status == 2
    assert "lease=20 and grace=10, this node has lease=1 and grace=0.5" in ended.err
    holding.end(signal.SIGINT)


def test_a_command_that_cannot_be_run_leaves_nothing(shell: Shell) -> None:
    """127, and the key is pending."""
    assert shell.run("hold", "m", "k", "--", "/no/such").status == 127
    assert shell.run("get", "m", "k").status == 3


def test_a_barrier_opens_once_all_are_there(shell: Shell) -> None:
    """And not before; each command runs then, and its status is the exit code."""
    script = ("--", "sh", "-c", 'echo "$COORD_KEY"; exit 7')
    first = shell.start("barrier", "m", "start", "3", *script)
    second = shell.start("barrier", "m", "start", "3", "-q")
    while len(shell.run("holders", "m", "start").out.splitlines()) < 2:
        pass
    assert (first.popen.poll(), second.popen.poll(), first.out) == (None, None, b"")
    third = shell.run("barrier", "m", "start", "3", *script)
    assert (third.status, third.out) == (7, "start\n")
    assert "start of map m is open" in third.err
    assert first.end()[:2] == (7, "start\n")
    assert second.end() == (0, "", "")
    assert shell.run("holders", "m", "start").status == 3


def test_a_barrier_that_does_not_open(shell: Shell) -> None:
    """124 after the time-out, 2 for a number that is none; nothing is held then."""
    ended = shell.run("barrier", "m", "start", "2", "--timeout", "200ms", "--", "echo", "ran")
    assert (ended.status, ended.out) == (124, "")
    assert shell.run("holders", "m", "start").status == 3
    assert shell.run("barrier", "m", "start", "0").status == 2
    assert shell.run("barrier", "m", "start", "three").status == 2


def test_members_of_nobody(shell: Shell) -> None:
    """3, and nothing."""
    assert (shell.run("members").status, shell.run("members").out) == (3, "")
