"""`coord fire`, `pulse`, `fail` and `reset` of many keys in one go."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli.processes import RedisServer, Shell, Wire


def _values(shell: Shell) -> dict[str, object]:
    lines = shell.do("ls", "m", "--json").out.splitlines()
    records = [json.loads(line) for line in lines]
    return {record["key"]: record["value"] for record in records if record["latched"]}


def test_each_line_is_a_call(shell: Shell) -> None:
    """KEY, or KEY, a tab and VALUE: JSON or a string, as on the command line; the outcomes come in order."""
    lines = 'a\nb\t{"x": [1]}\n\nc\tplain words\ta tab\r\n-5\t-5\n#k'
    ended = shell.run("fire", "m", "--from", "-", stdin=lines.encode())
    assert ended == (0, "a\tfirst\nb\tfirst\nc\tfirst\n-5\tfirst\n#k\tfirst\n", "")
    assert _values(shell) == {"a": True, "b": {"x": [1]}, "c": "plain words\ta tab", "-5": -5, "#k": True}


def test_json_lines_carry_any_value(shell: Shell) -> None:
    """With --json-lines a line is an object: for values with ends of lines, and for what --json has printed."""
    objects: list[dict[str, Any]] = [
        {"key": "a", "value": "one\ntwo"},
        {"key": "b", "value": None},
        {"key": "\u00e9", "value": {"k": [1]}},
    ]
    stdin = "\n".join(json.dumps(each) for each in objects).encode()
    assert shell.run("fire", "m", "--from", "-", "--json-lines", "-q", stdin=stdin) == (0, "", "")
    assert _values(shell) == {each["key"]: each["value"] for each in objects}
    listed = shell.do("ls", "m", "--json").out
    copied = shell.run("fire", "copy", "--from", "-", "--json-lines", stdin=listed.encode())
    assert copied.out == "a\tfirst\nb\tfirst\n\u00e9\tfirst\n"


@pytest.mark.parametrize(
    ("words", "lines", "said"),
    [
        ((), b"ok\n\tno key\n", "line 2: key ''"),
        ((), b"ok\nbad\x07\n", "line 2: key"),
        ((), b"ok\n\nb\xff\n", "line 3: not UTF-8"),
        ((), b"k\t[" + b"[" * 200 + b"]" * 201, "line 1: value[0][0][0]: nested more than 100 deep"),
        ((), b"k\t" + b"x" * 70_000, "line 1: value: 70002 bytes of JSON, where 65536 are allowed"),
        ((), b"k" * 2_000_000, "line 1: more than 1048576 bytes"),
        (("--json-value",), b"ok\t1\nk\t{a", "line 2: value: not JSON: expecting property name"),
        (
            ("--json-lines",),
            b'{"key": "k", "value": 1}\n{"key":',
            "line 2: not JSON: expecting value at column 8",
        ),
        (("--json-lines",), b'{"value": 1}', 'line 1: expected an object with a string "key"'),
        (("--json-lines",), b'{"key": 1, "value": 1}', 'line 1: expected an object with a string "key"'),
        (("--json-lines",), b'{"key": "k", "vaule": 1}', 'line 1: the object has no "value"'),
        (("--json-lines",), b"[]", 'line 1: expected an object with a string "key"'),
    ],
)
def test_a_wrong_line_is_named_and_nothing_is_sent(
    shell_at: Callable[[str], Shell], words: tuple[str, ...], lines: bytes, said: str
) -> None:
    """The whole file is read first: of one that is wrong somewhere nothing is sent, and no server looked for."""
    status, out, err = shell_at("redis://127.0.0.1:1").run("fire", "m", "--from", "-", *words, stdin=lines)
    assert (status, out) == (2, "")
    assert err.startswith(f"coord: {said}")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "words",
    [
        ("fire", "m", "k", "--from", "-"),
        ("fire", "m", "--json-lines"),
        ("fire", "m", "k", "1", "--string", "--json-value"),
        ("fire", "m", "--from", "-", "--json-lines", "--string"),
        ("fire", "m", "--from", "-", "--once", "n"),
        ("fire", "m", "--from", "/no/such"),
        ("fire", "m"),
        ("fail", "m", "k"),
        ("reset", "m"),
        ("reset", "m", "k", "--all"),
        ("reset", "m", "--prefix", ""),
        ("reset", "m", "--prefix", "a", "--all"),
        ("reset", "m", "k", "j", "--revision", "1.1"),
        ("reset", "m", "k", "j", "--once", "n"),
        ("reset", "m", "--foreign", "--once", "n"),
        ("reset", "m", "k", "--json-lines"),
        ("reset", "m", "k", ""),
    ],
    ids=" ".join,
)
def test_what_does_not_go_together_is_refused(shell_at: Callable[[str], Shell], words: tuple[str, ...]) -> None:
    """Words that contradict each other are a usage error, before anything is read or sent."""
    status, out, err = shell_at("redis://127.0.0.1:1").run(*words, stdin=b"a\nb\n")
    assert (status, out) == (2, "")
    assert "Traceback" not in err


def test_fail_needs_a_reason_in_each_line(shell: Shell) -> None:
    """`fail` has no value by default, in a file no more than on the command line."""
    ended = shell.run("fail", "m", "--from", "-", stdin=b"a\tno\nb\n")
    assert ended == (2, "", "coord: line 2: expected KEY, a tab and VALUE, but there is no tab\n")
    assert shell.run("fail", "m", "--from", "-", stdin=b"a\tno\n").out == "a\tfirst\n"
    assert shell.run("wait", "m", "a").err == "coord: a failed: no\n"


def test_pulse_wakes_many(shell: Shell) -> None:
    """`pulse --from` is `pulse` a line."""
    waiting = shell.start("wait", "m", "a", "b").says("armed")
    shell.run("pulse", "m", "--from", "-", "-q", stdin=b"a\t1\nb\t2\n")
    assert sorted(waiting.end().out.splitlines()) == ["a\t1", "b\t2"]


def test_exit_code_tells_whether_all_were_first(shell: Shell) -> None:
    """With --exit-code 1 is the code of a call that changed nothing; of several the highest code counts."""
    assert shell.run("fire", "m", "a", "--exit-code") == (0, "first\n", "")
    assert shell.run("fire", "m", "a", "--exit-code", "-q") == (1, "", "")
    assert shell.run("fire", "m", "--from", "-", "--exit-code", stdin=b"b\na\nc\n") == (
        1,
        "b\tfirst\na\talready\nc\tfirst\n",
        "",
    )
    assert shell.run("reset", "m", "--all", "--exit-code", "-q").status == 0
    assert shell.run("reset", "m", "a", "b", "--exit-code").status == 1


def test_many_more_than_travel_at_once(shell: Shell, tmp_path: Path) -> None:
    """Thousands of lines go in one start, each once, in order, from a file."""
    file = tmp_path / "keys"
    file.write_text("".join(f"k{number}\t{number}\n" for number in range(2500)))
    out = shell.run("fire", "m", "--from", str(file)).out
    assert out == "".join(f"k{number}\tfirst\n" for number in range(2500))
    assert len(_values(shell)) == 2500
    assert shell.run("reset", "m", "--prefix", "k1").out.count("\tfirst\n") == 1111
    assert len(_values(shell)) == 2500 - 1111
    assert shell.run("reset", "m", "--all", "-q") == (0, "", "")
    assert _values(shell) == {}


def test_reset_takes_keys_from_lines(shell: Shell) -> None:
    """A line of `reset --from` is a KEY, or an object with one."""
    shell.do("fire", "m", "a")
    shell.do("fire", "m", "b")
    assert shell.run("reset", "m", "--from", "-", stdin=b"a\nzz\n").out == "a\tfirst\nzz\talready\n"
    listed = shell.do("ls", "m", "b", "--json").out.encode()
    assert shell.run("reset", "m", "--from", "-", "--json-lines", stdin=listed).out == "b\tfirst\n"


def test_an_error_names_its_line_and_the_rest_goes_on(
    own_server: Callable[..., RedisServer], shell_at: Callable[[str], Shell]
) -> None:
    """What one call is refused is said with its line; the others are made, and the exit code is that of the error."""
    shell = shell_at(own_server().url)
    ended = shell.run("fire", "m", "--from", "-", "--replicas", "1", "--within", "100ms", stdin=b"a\nb\n")
    assert (ended.status, ended.out) == (75, "")
    assert [line.partition(": applied")[0] for line in ended.err.splitlines()] == [
        "coord: line 1: a",
        "coord: line 2: b",
    ]
    assert len(_values(shell)) == 2


def test_nothing_more_is_sent_when_the_server_has_gone(
    shared_server: RedisServer, shell_at: Callable[[str], Shell], tmp_path: Path
) -> None:
    """After calls without an answer the rest is not tried, one deadline after the other, and that is said."""
    lines = "".join(f"k{number}\n" for number in range(1500)).encode()
    with Wire(tmp_path / "s", shared_server.socket, until=b"k999") as wire:
        ended = shell_at(wire.url).run("fire", "m", "--from", "-", "--timeout", "1s", stdin=lines)
    assert ended.status == 75
    assert ended.err.endswith("coord: nothing after line 1000 was sent\n")
    assert "line 1001" not in ended.err


def test_no_lines_are_no_calls(shell_at: Callable[[str], Shell]) -> None:
    """An empty file is no error, and needs no server."""
    assert shell_at("redis://127.0.0.1:1").run("fire", "m", "--from", "-", stdin=b"\n") == (0, "", "")
