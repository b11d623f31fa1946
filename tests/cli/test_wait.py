"""`coord wait`, as a process."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli.processes import RedisServer, Shell


@pytest.mark.own_interpreter
def test_it_waits_and_prints_the_value(shell: Shell) -> None:
    """A waiter says that it is armed, and prints the value when the event is fired elsewhere."""
    waiting = shell.start("wait", "mount", "/mnt/abc").says("armed: waiting for /mnt/abc")
    assert shell.run("fire", "mount", "/mnt/abc", '{"at": [1]}').out == "first\n"
    assert waiting.end()[:2] == (0, '{"at":[1]}\n')


def test_who_comes_late_is_answered_at_once(shell: Shell) -> None:
    """A fired event is printed without a word on stderr, strings raw, as often as it is asked for."""
    shell.do("fire", "deploy", "ready", "007")
    for _ in range(2):
        assert shell.run("wait", "deploy", "ready") == (0, "007\n", "")


def test_a_pulse_wakes_who_waits(shell: Shell) -> None:
    """A pulse is an event too."""
    waiting = shell.start("wait", "m", "k").says("armed")
    shell.do("pulse", "m", "k", "3")
    assert waiting.end()[:2] == (0, "3\n")


def test_a_failed_event_is_1(shell: Shell) -> None:
    """A failure is exit code 1, its reason on stderr, and CMD is not run."""
    shell.do("fail", "m", "k", "disk on fire")
    assert shell.run("wait", "m", "k", "--", "echo", "ran") == (1, "", "coord: k failed: disk on fire\n")


def test_a_time_out_is_124(shell: Shell) -> None:
    """A deadline that passes is exit code 124, names what is missing, and CMD is not run."""
    shell.do("fire", "m", "there")
    ended = shell.run("wait", "m", "there", "k", "--timeout", "300ms", "--", "echo", "ran")
    assert ended[:2] == (124, "there\ttrue\n")
    assert "timed out after 0.3s, waiting for k\n" in ended.err


def test_nothing_is_said_to_be_armed_that_was_not(shell_at: Callable[[str], Shell]) -> None:
    """A wait that ends before the server was reached, by its deadline or a signal, was never armed."""
    nobody = shell_at("redis://127.0.0.1:1")
    ended = nobody.run("wait", "m", "k", "--timeout", "100ms")
    assert ended == (124, "", "coord: timed out after 0.1s, waiting for k\n")
    ended = nobody.start("wait", "m", "k").says("waiting for the server").end(signal.SIGINT)
    assert ended.status == 130
    assert "armed" not in ended.err


def test_a_busy_server_is_waited_for(own_server: Callable[..., RedisServer], shell_at: Callable[[str], Shell]) -> None:
    """Another client's slow script ends no wait, armed or not yet: it is no refusal."""
    server = own_server()
    shell = shell_at(server.url)
    armed = shell.start("wait", "m", "armed").says("armed")
    server.be_busy()
    late = shell.start("wait", "m", "late").says("waiting for the server")
    server.be_idle()
    late.says("armed")
    for key in ("armed", "late"):
        assert shell.run("fire", "m", key, "1").status == 0
    assert armed.end()[:2] == late.end()[:2] == (0, "1\n")


def test_several_keys_print_as_they_come(shell: Shell) -> None:
    """Several keys print KEY, a tab and VALUE, in the order in which they come, each key once."""
    waiting = shell.start("wait", "m", "a", "b", "c", "a").says("armed: waiting for a, b, c")
    for key in ("c", "a", "b"):
        shell.do("fire", "m", key, json.dumps(f"v{key}"))
        waiting.prints(f"{key}\tv{key}\n")
    assert waiting.end()[:2] == (0, "c\tvc\na\tva\nb\tvb\n")


def test_a_key_that_looks_like_an_option_is_waited_for(shell: Shell) -> None:
    """What fire can fire behind --, wait can wait for: with --key, and --map for the map."""
    waiting = shell.start("wait", "--map=-m", "--key=-k", "--key", "--any").says("armed: waiting for -k, --any")
    for key in ("-k", "--any"):
        shell.do("fire", "--", "-m", key, "-v")
    assert waiting.end()[:2] == (0, "-k\t-v\n--any\t-v\n")


def test_any_key_is_enough(shell: Shell) -> None:
    """With --any the first key that comes ends it."""
    waiting = shell.start("wait", "m", "a", "b", "--any").says("armed")
    shell.do("fire", "m", "b", "2")
    assert waiting.end()[:2] == (0, "b\t2\n")


def test_json_prints_whole_records(shell: Shell) -> None:
    """With --json each key is a whole record on a line."""
    shell.do("fire", "m", "a", "1")
    shell.do("fire", "m", "b", "x")
    ended = shell.run("wait", "m", "a", "b", "--json")
    records = [json.loads(line) for line in ended.out.splitlines()]
    assert {(it["key"], it["value"], it["kind"], it["latched"], it["node"]) for it in records} == {
        ("a", 1, "fired", True, "here"),
        ("b", "x", "fired", True, "here"),
    }


def test_json_of_a_failure_is_a_record_too(shell: Shell) -> None:
    """A failed event prints its record with --json, and still exits with 1."""
    shell.do("fail", "m", "k", "no")
    ended = shell.run("wait", "m", "k", "--json")
    assert ended.status == 1
    assert json.loads(ended.out)["kind"] == "failed"


def test_timeout_0_looks_once(shell: Shell) -> None:
    """With --timeout 0 what is there is printed, and what is not is 124."""
    shell.do("fire", "m", "a", "1")
    shell.do("fail", "m", "f", "no")
    assert shell.run("wait", "m", "a", "--timeout", "0") == (0, "1\n", "")
    assert shell.run("wait", "m", "a", "b", "--timeout", "0") == (124, "a\t1\n", "coord: pending: b\n")
    assert shell.run("wait", "m", "b", "a", "--any", "--timeout", "0s") == (0, "a\t1\n", "")
    assert shell.run("wait", "m", "f", "--timeout", "0") == (1, "", "coord: f failed: no\n")


def test_it_waits_for_the_server_too(own_server: Callable[..., RedisServer], shell_at: Callable[[str], Shell]) -> None:
    """A waiter that was there before the server says so, and is served when it comes."""
    server = own_server()
    server.stop()
    shell = shell_at(server.url)
    waiting = shell.start("wait", "m", "k").says(f"waiting for the server at {server.url}")
    server.start()
    waiting.says("connected to the server").says("armed")
    shell.do("fire", "m", "k", "1")
    assert waiting.end()[:2] == (0, "1\n")


def test_the_time_out_counts_without_a_server(shell_at: Callable[[str], Shell]) -> None:
    """A server that never comes is a time-out like any other."""
    assert shell_at("redis://127.0.0.1:1").run("wait", "m", "k", "--timeout", "200ms").status == 124


# -- CMD


@pytest.mark.own_interpreter
def test_it_becomes_the_command(shell: Shell, tmp_path: Path) -> None:
    """CMD runs as the same process, its arguments untouched, with the key and the value in its environment."""
    shell.do("fire", "m", "k", '{"ä": 1}')
    script = tmp_path / "cmd"
    script.write_text('#!/bin/sh\nprintf "%s|" $$ "$COORD_KEY" "$COORD_VALUE" "$@"\n')
    script.chmod(0o755)
    waiting = shell.start("wait", "m", "k", "--", str(script), "--any", "--", "-5", "")
    pid = waiting.popen.pid
    assert waiting.end() == (0, f'{{"ä":1}}\n{pid}|k|{{"ä":1}}|--any|--|-5||', "")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ('"v1.2"', "v1.2"),
        ('"two\\nlines \u00e9"', "two\nlines \u00e9"),
        ('"7"', "7"),
        ('{"a": [1]}', '{"a":[1]}'),
        ("null", "null"),
        ('""', ""),
        ('"a\\u0000b"', "unset"),
    ],
)
def test_the_command_gets_the_value_as_text_too(shell: Shell, value: str, text: str) -> None:
    """COORD_TEXT is the value without the quotes of a string; one with a NUL is not there, nor an older one."""
    shell.do("fire", "m", "k", value)
    show = ("--", "sh", "-c", 'printf "%s|" "${COORD_TEXT-unset}" >&2')
    assert shell.start("wait", "m", "k", *show, more={"COORD_TEXT": "old"}).end().err == f"{text}|"


def test_several_values_are_an_object(shell: Shell) -> None:
    """After several keys COORD_KEY holds the keys, one a line, and COORD_VALUE an object; with --any it is the one."""
    shell.do("fire", "m", "a", "1")
    shell.do("fire", "m", "b", "x")
    show = ("--", "sh", "-c", 'printf "%s %s\n" "$COORD_KEY" "$COORD_VALUE"')
    lines = shell.run("wait", "m", "a", "b", *show).out.splitlines()
    assert lines[2:] == ["a", 'b {"a":1,"b":"x"}']
    assert shell.run("wait", "m", "a", "zz", "--any", *show).out == "a\t1\na 1\n"


def test_the_commands_exit_code_is_its_own(shell: Shell) -> None:
    """What CMD exits with is what the shell sees."""
    shell.do("fire", "m", "k")
    assert shell.run("wait", "m", "k", "--", "sh", "-c", "exit 42").status == 42


@pytest.mark.own_interpreter
def test_the_command_gets_default_signals(shell: Shell) -> None:
    """Python's ignored signals are not handed on, no signal is blocked, and our descriptors are closed."""
    shell.do("fire", "m", "k")
    ended = shell.run("wait", "m", "k", "--", "sh", "-c", "grep -E '^Sig(Ign|Blk)' /proc/self/status; ls /proc/self/fd")
    lines = ended.out.splitlines()[1:]
    ignored, blocked = (int(line.split()[1], 16) for line in sorted(lines[:2], reverse=True))
    assert not ignored & (1 << (signal.SIGPIPE - 1) | 1 << (signal.SIGXFSZ - 1))
    assert blocked == 0
    # 3 is the directory that ls reads.
    assert lines[2:] == ["0", "1", "2", "3"]


def test_a_command_that_is_not_there_is_127(shell: Shell, tmp_path: Path) -> None:
    """What cannot be found is 127, what cannot be run 126, each with a line that names it."""
    shell.do("fire", "m", "k")
    assert shell.run("wait", "m", "k", "--", "no-such-cmd") == (
        127,
        "true\n",
        "coord: no-such-cmd: command not found\n",
    )
    plain = tmp_path / "plain"
    plain.write_text("")
    ended = shell.run("wait", "m", "k", "--", str(plain))
    assert ended == (126, "true\n", f"coord: {plain}: Permission denied\n")


@pytest.mark.parametrize("command", ["wait", "on"])
def test_an_empty_command_is_127_at_once(shell_at: Callable[[str], Shell], command: str) -> None:
    """An empty CMD is refused before anything is waited for."""
    ended = shell_at("redis://127.0.0.1:1").run(command, "m", "k", "--", "", "more")
    assert ended == (127, "", "coord: '': command not found\n")


@pytest.mark.parametrize(
    ("command", "status", "words"),
    [
        (" ", 127, "command not found"),
        ("/etc/passwd/x", 126, "Not a directory"),
        ("/etc", 126, "Permission denied"),
        ("SCRIPT", 127, "its interpreter, or the target of a link, is missing"),
    ],
)
def test_what_cannot_be_run_ends_both_alike(
    shell: Shell, tmp_path: Path, command: str, status: int, words: str
) -> None:
    """`wait` and `on` say the same about what cannot be run."""
    script = tmp_path / "script"
    script.write_text("#!/nowhere/at/all\n")
    script.chmod(0o755)
    shell.do("fire", "m", "k")
    for before in (("wait", "m", "k"), ("on", "m", "--since", "start")):
        ended = shell.run(*before, "--", str(script) if command == "SCRIPT" else command)
        assert ended.status == status
        assert words in ended.err


def test_a_value_of_64_k_fits_the_environment(shell: Shell) -> None:
    """The largest value of letters beyond ASCII reaches CMD: it is not escaped."""
    value = json.dumps("é" * 32_000, ensure_ascii=False)
    shell.do("fire", "m", "k", value)
    ended = shell.run("wait", "m", "k", "--", "sh", "-c", 'printf %s "$COORD_VALUE" | wc -c')
    assert ended.out.splitlines()[-1].strip() == str(len(value.encode()))


def test_values_beyond_the_environment_are_126(shell: Shell) -> None:
    """Values that together are too long for an environment variable are a clear error."""
    value = json.dumps("x" * 60_000)
    for key in ("a", "b", "c"):
        shell.do("fire", "m", key, value)
    ended = shell.run("wait", "m", "a", "b", "c", "--", "true")
    assert ended.status == 126
    assert ended.err.startswith("coord: true: the environment is too large: COORD_VALUE has 1800")


def test_a_quiet_wait_is_its_exit_code(shell: Shell) -> None:
    """With -q neither the value nor that it waits is shown; CMD gets the value all the same."""
    waiting = shell.start("wait", "-q", "m", "k", "--timeout", "20s")
    # It says nothing that could be waited for.
    while not json.loads(shell.run("get", "m", "k", "--json").out)["subscribers"]:
        pass
    shell.do("fire", "m", "k", "1")
    assert waiting.end() == (0, "", "")
    assert shell.run("wait", "-q", "m", "k", "--", "sh", "-c", 'echo "$COORD_TEXT"') == (0, "1\n", "")
    assert shell.run("wait", "-q", "m", "a", "--timeout", "0") == (124, "", "coord: pending: a\n")


# Terminals


def test_a_terminal_sees_a_bar_for_several_keys(shell: Shell) -> None:
    """Where stderr is a terminal and there are several keys, a bar counts them; it is gone at the end."""
    waiting = shell.start("wait", "m", "a", "b", terminal=True, more={"TERM": "xterm"}).says("armed")
    for bar, key in (("[---", "a"), ("] 1/2", "b")):
        waiting.says(bar)
        shell.do("fire", "m", key)
    ended = waiting.end()
    assert ended[:2] == (0, "a\ttrue\nb\ttrue\n")
    assert "\r\x1b[Kcoord: armed: waiting for a, b of map m\r\n\r\x1b[K[" in ended.err
    assert ended.err.endswith("\r\x1b[K")


@pytest.mark.parametrize(
    ("options", "before", "says"),
    [
        ([], [], "k is awaited by 2 other nodes"),
        (["--gone"], [("fire", "m", "k")], "k was fired by here"),
        (["--at-least", "3"], [("count", "m", "k", "2")], "k has the count 2"),
    ],
    ids=["wait", "gone", "count"],
)
def test_a_terminal_sees_how_a_long_wait_stands(
    options: list[str], before: list[tuple[str, ...]], says: str, shell: Shell
) -> None:
    """After some seconds, in one line that is gone at the end; --quiet shows none, and a pipe gets none."""
    for words in before:
        shell.do(*words)
    terminal: dict[str, Any] = {"terminal": True, "more": {"TERM": "xterm"}}
    quiet = shell.start("wait", "-q", "m", "k", *options, **terminal)
    in_a_pipe = shell.start("wait", "m", "k", *options).says("armed")
    waiting = shell.start("wait", "m", "k", *options, **terminal).says("armed").says(says)
    shell.do(
        *{"": ("fire", "m", "k"), "--gone": ("reset", "m", "k"), "--at-least": ("count", "m", "k")}[
            "".join(options[:1])
        ]
    )
    ended = waiting.end()
    assert ended.status == 0
    assert ended.err.endswith("\r\x1b[K")
    assert ended.err.count("\n") == 1
    assert quiet.end().err == ""
    assert in_a_pipe.end().err.count("\n") == 1


def test_a_terminal_sees_who_holds_it(shell: Shell) -> None:
    """Who holds the key, while more have to, or while its end is waited for."""
    terminal: dict[str, Any] = {"terminal": True, "more": {"TERM": "xterm"}}
    shell.start("hold", "m", "k", "--need", "2", more={"COORD_NODE": "web1"}).says("holding")
    shell.start("hold", "m", "l", more={"COORD_NODE": "web2"}).says("holding")
    waits = [shell.start("wait", "m", "k", **terminal), shell.start("wait", "--gone", "m", "l", **terminal)]
    waits[0].says("k is held by web1, not by enough; has no other node that waits")
    waits[1].says("l is held by web2")


def test_there_is_no_bar_elsewhere(shell: Shell) -> None:
    """Where stderr is no terminal nothing but sentences is written there."""
    waiting = shell.start("wait", "m", "a", "b").says("armed")
    for key in ("a", "b"):
        shell.do("fire", "m", key)
    assert waiting.end().err == "coord: armed: waiting for a, b of map m\n"


# The end


@pytest.mark.own_interpreter
@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_signals_end_it_quietly(shell: Shell, signum: int, code: int) -> None:
    """A signal ends the wait with its exit code, says nothing, and CMD is not run."""
    ended = shell.start("wait", "m", "k", "--", "echo", "ran").says("armed").end(signum)
    assert ended == (code, "", "coord: armed: waiting for k of map m\n")


@pytest.mark.own_interpreter
def test_a_signal_ends_it_without_a_server(shell_at: Callable[[str], Shell]) -> None:
    """Also while it waits for the server."""
    waiting = shell_at("redis://127.0.0.1:1").start("wait", "m", "k").says("waiting for the server")
    assert waiting.end(signal.SIGINT).status == 130
