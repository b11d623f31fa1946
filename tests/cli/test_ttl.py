"""Events that end by themselves, and waits for the ends of events, as processes."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from cli.processes import Ended, Shell
from coord import Kind, Record, Revision
from coord.cli.wait import _Gone

NOBODY = "redis://127.0.0.1:1"


def _typed(shell: Shell, *words: str) -> Ended:
    assert shell.typist is not None
    return shell.typist.type(words, shell.env)


def _let_end(shell: Shell, key: str = "k") -> None:
    """Have the event of a key end, and return when it has."""
    shell.do("expire", "m", key, "100ms")
    while "expired" not in _typed(shell, "get", "m", key).out:
        pass


# fire --ttl


def test_get_and_ls_show_when_an_event_expires(shell: Shell) -> None:
    """An event with a TTL has one more field at the end of its line; others have the lines that they had."""
    assert shell.run("fire", "m", "k", "--ttl", "1h") == (0, "first\n", "")
    shell.do("fire", "m", "plain")
    for command in (("get", "m", "k", "plain"), ("ls", "m")):
        lines = [line.split("\t") for line in _typed(shell, *command).out.splitlines()]
        assert [len(line) for line in lines] == [8, 7]
        assert lines[0][7] == "expires in 59 min"
        records = [json.loads(line) for line in _typed(shell, *command, "--json").out.splitlines()]
        assert 3500 < records[0]["expires_in"] <= 3600
        assert list(records[0])[-2:] == ["expires_in", "subscribers"]
        assert "expires_in" not in records[1]


def test_a_fire_with_a_ttl_moves_the_end_later_only(shell: Shell) -> None:
    """The second fire is not the first, and makes the end later; a shorter TTL, or none, leaves it."""
    record = json.loads(shell.do("fire", "m", "k", "--ttl", "1h", "--json").out)
    assert list(record.items())[-2:] == [("expires_in", 3600.0), ("first", True)]
    for words in (("--ttl", "2h"), ("--ttl", "1s"), ()):
        again = json.loads(shell.do("fire", "m", "k", "--json", *words).out)
        assert (again["first"], "expires_in" in again) == (False, False)
        assert 7100 < json.loads(shell.do("get", "m", "k", "--json").out)["expires_in"] <= 7200


def test_a_plain_event_gets_no_end(shell: Shell) -> None:
    """To fire with a TTL what was fired without one changes nothing."""
    shell.do("fire", "m", "k")
    assert shell.do("fire", "m", "k", "--ttl", "1h").out == "already\n"
    assert "expires" not in shell.do("get", "m", "k").out


def test_all_lines_of_a_file_get_the_ttl(shell: Shell) -> None:
    """With --from each event ends after the TTL."""
    ended = shell.run("fire", "m", "--from", "-", "--ttl", "1h", stdin=b"a\nb\t1\n")
    assert ended == (0, "a\tfirst\nb\tfirst\n", "")
    assert [line.split("\t")[7] for line in shell.do("ls", "m").out.splitlines()] == ["expires in 59 min"] * 2


def test_an_event_that_has_ended_is_pending_for_all_commands(shell: Shell) -> None:
    """After its end `get` shows expired and exits with 3; `ls`, `watch` and `on` show it as they show a reset."""
    shell.do("fire", "m", "k", '"v"', "--ttl", "1h")
    _let_end(shell)
    got = shell.run("get", "m", "k")
    assert (got.status, got.out.split("\t")[:3], got.out.count("\t")) == (3, ["k", "expired", "-"], 6)
    # Until a node has made the change, the revision and the time are those of the fire.
    assert [each for i, each in enumerate(shell.do("ls", "m").out.split("\t")) if i not in (3, 4)] == [
        each for i, each in enumerate(got.out.split("\t")) if i not in (3, 4)
    ]
    record = json.loads(shell.do("ls", "m", "--json").out)
    assert (record["kind"], record["latched"], record["value"], record["node"]) == ("expired", False, None, "here")
    assert _typed(shell, "wait", "m", "k", "--timeout", "0") == (124, "", "coord: pending: k\n")
    shell.start("watch", "m", "--since", "start").prints("k\texpired\t-\t")
    show = ("--", "sh", "-c", 'echo "$COORD_KIND $COORD_VALUE"; [ "$COORD_KIND" = fired ] || exit 7')
    ended = shell.run("on", "m", "--since", "start", *show)
    assert (ended.status, ended.out) == (7, 'fired "v"\nexpired null\n')
    assert shell.do("fire", "m", "k").out == "first\n"


# expire


def test_expire_says_what_it_did(shell: Shell) -> None:
    """It moves the end sooner or later; of other keys it says why nothing changes."""
    shell.do("fire", "m", "k", "--ttl", "1h")
    shell.do("fire", "m", "plain")
    assert shell.run("expire", "m", "k", "3h", "--exit-code") == (0, "ends in 3 h\n", "")
    assert shell.do("expire", "m", "k", "90").out == "ends in 90 s\n"
    assert json.loads(shell.do("get", "m", "k", "--json").out)["expires_in"] <= 90
    plain = "has no TTL: nothing changes; coord reset ends it\n"
    assert shell.do("expire", "m", "plain", "90").out == plain
    assert _typed(shell, "expire", "m", "plain", "90", "--exit-code") == (1, plain, "")
    assert shell.do("expire", "m", "none", "90").out == "pending: nothing to expire\n"
    assert _typed(shell, "expire", "m", "none", "90", "-q", "--exit-code") == (1, "", "")


def test_an_event_that_has_ended_cannot_be_prolonged(shell: Shell) -> None:
    """It is pending, whether its end was announced already or not."""
    shell.do("fire", "m", "k", "--ttl", "1h")
    _let_end(shell)
    assert shell.do("expire", "m", "k", "1h").out == "pending: nothing to expire\n"


def test_expire_prints_records_too(shell: Shell) -> None:
    """With --json it prints the record, whether it was the first, and when the event ends if that was moved."""
    shell.do("fire", "m", "k", "--ttl", "1h")
    moved = json.loads(shell.do("expire", "m", "k", "2h", "--json").out)
    assert (moved["kind"], moved["expires_in"], moved["first"]) == ("fired", 7200.0, True)
    nothing = json.loads(shell.do("expire", "m", "none", "2h", "--json").out)
    assert (nothing["kind"], nothing["first"], "expires_in" in nothing) == (None, False, False)


# wait --gone


def test_it_waits_for_a_reset(shell: Shell) -> None:
    """It says what it waits for, and prints the kind, the time and the node of what ended the event."""
    shell.do("fire", "m", "k")
    waiting = shell.start("wait", "--gone", "m", "k").says("armed: waiting for the end of k of map m")
    shell.do("reset", "m", "k", "--node", "there")
    status, out, _ = waiting.end()
    assert (status, out.split("\t")[::2]) == (0, ["reset", "there\n"])


@pytest.mark.parametrize("how", [("pulse", "m", "k", "1"), ("expire", "m", "k", "100ms")])
def test_it_waits_for_any_end(shell: Shell, how: tuple[str, ...]) -> None:
    """A pulse ends an event too, and so does its TTL; a failed event has an end as well."""
    shell.do("fire", "m", "k", "--ttl", "1h")
    shell.do("fail", "m", "failed", "no")
    waiting = shell.start("wait", "--gone", "m", "k", "failed", "--json").says("armed")
    shell.do("reset", "m", "failed")
    waiting.prints('"key":"failed","kind":"reset"')
    shell.do(*how)
    status, out, _ = waiting.end()
    record = json.loads(out.splitlines()[1])
    assert (status, record["key"], record["kind"]) == (0, "k", {"pulse": "pulsed", "expire": "expired"}[how[0]])


def test_a_key_that_was_not_latched_is_said_to_be_so(shell: Shell) -> None:
    """It ends at once with 0, and prints the last change, if there was one."""
    assert shell.run("wait", "--gone", "m", "k") == (0, "pending\t-\t-\n", "coord: k was not latched\n")
    shell.do("pulse", "m", "p")
    ended = shell.run("wait", "--gone", "m", "k", "p")
    assert ended.status == 0
    assert sorted(line.split("\t")[:2] for line in ended.out.splitlines()) == [["k", "pending"], ["p", "pulsed"]]
    assert sorted(ended.err.splitlines()) == ["coord: k was not latched", "coord: p was not latched"]
    assert shell.run("wait", "--gone", "m", "k", "-q") == (0, "", "")
    assert json.loads(shell.run("wait", "--gone", "m", "k", "--json").out)["latched"] is False


def test_the_first_end_is_enough_with_any(shell: Shell) -> None:
    """With --any the first event that ends ends it, and CMD gets its key and kind, but no value."""
    for key in ("a", "b"):
        shell.do("fire", "m", key)
    show = ("--", "sh", "-c", 'echo "$COORD_KEY $COORD_KIND ${COORD_VALUE-unset} ${COORD_TEXT-unset}"')
    more = {"COORD_VALUE": "old"}
    waiting = shell.start("wait", "--gone", "--any", "m", "a", "b", *show, more=more).says("armed")
    shell.do("reset", "m", "b")
    lines = waiting.end().out.splitlines()
    assert lines[0].startswith("b\treset\t")
    assert lines[1] == "b reset unset unset"
    several = shell.run("wait", "--gone", "m", "b", "none", "--", "sh", "-c", 'echo "$COORD_KEY $COORD_KIND"')
    assert several.out.splitlines()[2:] == ["b", "none reset", "pending"]


def test_an_end_that_does_not_come_is_a_time_out(shell: Shell) -> None:
    """It exits with 124, names what is still latched, and does not run CMD; with 0 it only looks."""
    shell.do("fire", "m", "k")
    ended = shell.run("wait", "--gone", "m", "k", "none", "--timeout", "300ms", "--", "echo", "ran")
    assert ended[:2] == (124, "none\tpending\t-\t-\n")
    assert ended.err.endswith("coord: timed out after 0.3s, waiting for the end of k\n")
    said = "coord: none was not latched\ncoord: latched: k\n"
    assert shell.run("wait", "--gone", "m", "k", "none", "--timeout", "0") == (124, "none\tpending\t-\t-\n", said)
    assert shell.run("wait", "--gone", "m", "none", "-q", "--timeout", "0") == (0, "", "")


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_end_a_wait_for_an_end(shell: Shell, signum: int, code: int) -> None:
    """A signal ends it with the same code as any wait, and CMD is not run."""
    shell.do("fire", "m", "k")
    ended = shell.start("wait", "--gone", "m", "k", "--", "echo", "ran").says("armed").end(signum)
    assert ended == (code, "", "coord: armed: waiting for the end of k of map m\n")


def test_it_waits_for_the_server_as_any_wait(shell_at: Callable[[str], Shell]) -> None:
    """Without a server it waits; nothing counts as not latched."""
    ended = shell_at(NOBODY).run("wait", "--gone", "m", "k", "--timeout", "200ms")
    assert ended == (124, "", "coord: timed out after 0.2s, waiting for the end of k\n")


def test_an_event_that_was_fired_anew_is_said_to_be_so(capsys: pytest.CaptureFixture[str]) -> None:
    """Of an end that was missed while the node was cut off the new record is shown."""
    lines: list[str] = []

    async def line(text: str) -> None:
        lines.append(text)

    job: Any = SimpleNamespace(output=SimpleNamespace(line=line))
    wait = _Gone("m", ("k",), any=False, timeout=None, quiet=False, as_json=False, is_armed=True)
    record = wait._note(Record("m", "k", Kind.FIRED, 1, Revision(17, 3), 0.0, "there"), "k")
    asyncio.run(wait._arrived(job, job, "k", record))
    assert lines == ["fired\t1970-01-01T00:00:00.000Z\tthere"]
    assert "k ended while this node was disconnected, and was fired or failed anew" in capsys.readouterr().err
