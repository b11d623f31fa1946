"""Counters in the shell: `coord count`, and `coord wait --at-least`."""

from __future__ import annotations

import json

import pytest

from cli.processes import Ended, Shell


def _typed(shell: Shell, *words: str) -> Ended:
    assert shell.typist is not None
    return shell.typist.type(words, shell.env)


def test_it_prints_the_count(shell: Shell) -> None:
    """By one, or by N; the goal fires the key with the count, and it counts on after that."""
    assert shell.run("count", "m", "k") == (0, "1\n", "")
    assert _typed(shell, "count", "m", "k", "10", "--goal", "12") == (0, "11\n", "")
    assert _typed(shell, "get", "m", "k").out.split("\t")[:3] == ["k", "counted", "11"]
    assert _typed(shell, "get", "m", "k").status == 3
    assert _typed(shell, "count", "m", "k", "2").out == "13\n"
    assert _typed(shell, "wait", "m", "k").out == "13\n"
    assert _typed(shell, "count", "m", "k").out == "14\n"
    assert _typed(shell, "ls", "m").out.split("\t")[:3] == ["k", "fired", "14"]


def test_it_prints_records_too(shell: Shell) -> None:
    """With --json the record, its goal if it has one, whether the call was the first, and the count."""
    first = json.loads(_typed(shell, "count", "m", "k", "--json").out)
    assert (first["kind"], first["value"], first["first"], first["count"], "goal" in first) == (
        "counted", 1, True, 1, False,
    )  # fmt: skip
    again = json.loads(_typed(shell, "count", "m", "k", "--json", "--goal", "2").out)
    assert (again["kind"], again["latched"], again["goal"], again["count"]) == ("fired", True, 2, 2)
    assert json.loads(_typed(shell, "get", "m", "k", "--json").out)["goal"] == 2


def test_a_name_counts_once(shell: Shell) -> None:
    """A repeat prints the present count, and with --exit-code exits with 1; so does one under --once."""
    assert _typed(shell, "count", "m", "k", "--who", "a").out == "1\n"
    assert _typed(shell, "count", "m", "k", "--who", "b").out == "2\n"
    assert _typed(shell, "count", "m", "k", "5", "--who", "a", "--exit-code") == (1, "2\n", "")
    assert _typed(shell, "count", "m", "k", "--once", "x").out == "3\n"
    assert _typed(shell, "count", "m", "k", "--once", "x").out == "3\n"
    assert _typed(shell, "count", "m", "k", "-q") == (0, "", "")


def test_all_lines_of_a_file(shell: Shell) -> None:
    """A number after a tab, or 1; an invalid one is told with its line, and nothing is sent."""
    ended = shell.run("count", "m", "--from", "-", stdin=b"a\nb\t5\na\t2\n")
    assert ended == (0, "a\t3\nb\t5\na\t3\n".replace("a\t3", "a\t1", 1), "")
    ended = shell.run("count", "m", "--from", "-", "--json-lines", stdin=b'{"key": "a", "value": 3}\n')
    assert ended == (0, "a\t6\n", "")
    for line, lines in ((2, b"a\nb\t-5\n"), (1, b"a\tx\nb\n"), (2, b"a\t1\nb\t1.5\n")):
        ended = shell.run("count", "m", "--from", "-", stdin=lines)
        assert (ended.status, ended.out) == (2, "")
        assert f"line {line}: N: a whole number from 1 to 1000000000, not" in ended.err
    assert _typed(shell, "get", "m", "a").out.split("\t")[2] == "6"


@pytest.mark.parametrize(
    "words",
    ["fire m k", "fire m k --ttl 5", "fail m k no", "pulse m k", "expire m k 5"],
)
def test_a_counter_is_no_event(shell: Shell, words: str) -> None:
    """Exit code 2, and the sentence says what to do; after a reset the key is free."""
    _typed(shell, "count", "m", "k")
    assert _typed(shell, *words.split()) == (2, "", "coord: k: it is a counter; reset ends it\n")
    assert _typed(shell, "reset", "m", "k").out == "first\n"
    assert _typed(shell, *words.split()).status == 0


def test_an_event_is_no_counter_and_the_first_goal_stands(shell: Shell) -> None:
    """Exit code 2 for both, and nothing is counted."""
    _typed(shell, "fire", "m", "event")
    ended = _typed(shell, "count", "m", "event")
    assert (ended.status, ended.out) == (2, "")
    assert "it is an event that is fired, not a counter; reset ends it" in ended.err
    _typed(shell, "count", "m", "k", "--goal", "3")
    ended = _typed(shell, "count", "m", "k", "--goal", "4")
    assert ended == (2, "", "coord: k: its goal is 3, not 4; nothing was counted\n")
    assert _typed(shell, "count", "m", "k").out == "2\n"


def test_a_reset_of_many_resets_counters(shell: Shell) -> None:
    """With --all and --prefix, at any count."""
    _typed(shell, "count", "m", "a")
    _typed(shell, "count", "m", "b", "--goal", "1")
    _typed(shell, "pulse", "m", "c")
    assert sorted(_typed(shell, "reset", "m", "--all").out.splitlines()) == ["a\tfirst", "b\tfirst"]
    assert _typed(shell, "reset", "m", "--prefix", "a").out == ""


# wait --at-least


def test_it_waits_for_a_count(shell: Shell) -> None:
    """It says what it waits for, and prints the count that it got, which may be higher."""
    waiting = shell.start("wait", "--at-least", "3", "m", "k")
    waiting.says("armed: waiting for a count of 3 of k of map m")
    shell.do("count", "m", "k", "2")
    shell.do("count", "m", "k", "2")
    assert waiting.end().out == "4\n"
    assert shell.run("wait", "--at-least", "4", "m", "k") == (0, "4\n", "")


def test_it_waits_for_counts_of_several_keys(shell: Shell) -> None:
    """As with any wait: a key a line, the first of them, records, a look, a deadline, and a command."""
    _typed(shell, "count", "m", "a", "5")
    _typed(shell, "count", "m", "b", "7", "--goal", "6")
    assert sorted(_typed(shell, "wait", "--at-least", "5", "m", "a", "b").out.splitlines()) == ["a\t5", "b\t7"]
    record = json.loads(_typed(shell, "wait", "--at-least", "6", "--any", "--json", "m", "a", "b").out)
    assert (record["key"], record["value"], record["goal"]) == ("b", 7, 6)
    look = ("wait", "--at-least", "6", "--timeout", "0", "m", "a", "b")
    assert _typed(shell, *look) == (124, "b\t7\n", "coord: below 6: a\n")
    ended = _typed(shell, "wait", "--at-least", "6", "--timeout", "10ms", "m", "a")
    assert (ended.status, ended.err.splitlines()[-1]) == (
        124, "coord: timed out after 0.01s, waiting for a count of 6 of a",
    )  # fmt: skip
    ran = shell.run("wait", "--at-least", "5", "m", "a", "--", "sh", "-c", 'echo "$COORD_KEY $COORD_VALUE"')
    assert (ran.status, ran.out) == (0, "5\na 5\n")


# watch and on


def test_watch_shows_counts_and_on_runs_once_for_a_goal(shell: Shell) -> None:
    """A count after the goal is a line of a watch, but the event is the same."""
    for words in ((), ("--goal", "2"), ()):
        _typed(shell, "count", "m", "k", *words)
    lines = [
        line.split("\t")[:3] for line in _typed(shell, "watch", "m", "--since", "start", "--no-follow").out.splitlines()
    ]
    assert lines == [["k", "counted", "1"], ["k", "fired", "2"], ["k", "fired", "3"]]
    _typed(shell, "reset", "m", "k")
    show = ("--", "sh", "-c", 'echo "$COORD_KIND $COORD_VALUE"; [ "$COORD_KIND" != reset ] || exit 7')
    ended = shell.run("on", "m", "--since", "start", *show)
    assert (ended.status, ended.out) == (7, "counted 1\nfired 2\nreset null\n")
