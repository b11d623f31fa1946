"""`coord on`, as a process."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.processes import RedisServer, Shell, hearing

SHOW = ("sh", "-c", 'printf "%s|" "$COORD_KEY" "$COORD_KIND" "$COORD_VALUE" "$COORD_REVISION"; cat')


def test_a_prefix_may_look_like_an_option(shell: Shell) -> None:
    """--prefix and --map take what begins with a hyphen."""
    shell.do("fire", "--", "-m", "k")
    shell.do("fire", "--", "-m", "-k")
    script = ("sh", "-c", 'echo "$COORD_KEY"; exit 7')
    ended = shell.run("on", "--prefix=-", "--map=-m", "--since", "start", "--", *script)
    assert ended[:2] == (7, "-k\n")


def test_it_runs_the_command_for_each_change(shell: Shell) -> None:
    """CMD gets key, kind, value and revision in its environment, and the record on its stdin; one by one, in order."""
    running = shell.start("on", "m", "a", "--", *SHOW).says("armed: watching map m")
    shell.do("fire", "m", "a1", '{"x": "ä"}')
    shell.do("fire", "m", "b")
    shell.do("fail", "m", "a2", "no")
    shell.do("reset", "m", "a1")
    running.prints('"kind":"reset"')
    ended = running.end(signal.SIGTERM)
    assert ended.status == 143
    lines = ended.out.splitlines()
    shown = [line.split("|", 4) for line in lines]
    assert [it[:3] for it in shown] == [["a1", "fired", '{"x":"ä"}'], ["a2", "failed", '"no"'], ["a1", "reset", "null"]]
    for key, kind, value, revision, record in shown:
        fields = json.loads(record)
        assert (fields["key"], fields["kind"], fields["revision"]) == (key, kind, revision)
        assert fields["value"] == json.loads(value)


def test_a_command_that_fails_ends_it_with_its_code(shell: Shell) -> None:
    """The exit code of the failing CMD is coord's, and the changes after it are not handled."""
    for key in ("a", "b", "c"):
        shell.do("fire", "m", key)
    script = 'echo "$COORD_KEY"; [ "$COORD_KEY" != b ] || exit 7'
    ended = shell.run("on", "m", "--since", "start", "--", "sh", "-c", script)
    assert ended[:2] == (7, "a\nb\n")
    assert "coord: sh failed with 7 for b at " in ended.err
    killed = shell.run("on", "m", "--since", "start", "--", "sh", "-c", "kill -9 $$")
    assert killed.status == 137


def test_keep_going_keeps_going(shell: Shell) -> None:
    """With --keep-going a CMD that fails does not end it."""
    for key in ("a", "b"):
        shell.do("fire", "m", key)
    running = shell.start("on", "m", "--since", "start", "--keep-going", "--", "sh", "-c", "echo $COORD_KEY; exit 7")
    running.prints("a\nb\n").says("armed")
    assert running.end(signal.SIGINT).status == 130


def test_a_command_that_is_not_there_is_127(shell: Shell) -> None:
    """A CMD that cannot be run ends it, whatever --keep-going says."""
    shell.do("fire", "m", "k")
    ended = shell.run("on", "m", "--since", "start", "--keep-going", "--", "no-such-cmd")
    assert ended == (127, "", "coord: no-such-cmd: command not found\n")
    assert shell.run("on", "m", "--since", "start", "--", "/etc/passwd").status == 126


def test_the_cursor_remembers_what_was_handled(shell: Shell, tmp_path: Path) -> None:
    """A change is handled once over runs; one whose CMD failed comes again."""
    cursor = tmp_path / "cursor"
    words = ("on", "m", "--cursor", str(cursor), "--since", "start", "--", "sh", "-c")
    for key in ("a", "b"):
        shell.do("fire", "m", key)
    failing = shell.run(*words, 'echo "$COORD_KEY"; [ "$COORD_KEY" != b ]')
    assert failing[:2] == (1, "a\nb\n")
    running = shell.start(*words, 'echo "again $COORD_KEY"').says("armed")
    shell.do("fire", "m", "c")
    assert running.prints("again b\nagain c\n").end(signal.SIGTERM).status == 143


def test_the_cursor_covers_what_happens_between_runs(shell: Shell, tmp_path: Path) -> None:
    """Also a run that saw no change remembers where it stood: what comes while it is away is handled later."""
    words = ("on", "m", "--cursor", str(tmp_path / "cursor"), "--", "sh", "-c", "echo $COORD_KEY")
    shell.do("fire", "m", "before")
    shell.start(*words).says("armed").end(signal.SIGTERM)
    shell.do("fire", "m", "between")
    running = shell.start(*words).prints("between\n")
    assert running.says("armed").end(signal.SIGTERM).out == "between\n"


def test_the_cursor_covers_an_empty_map(shell: Shell, tmp_path: Path) -> None:
    """The first change that a map ever sees is not lost between runs either."""
    words = ("on", "m", "--cursor", str(tmp_path / "cursor"), "--", "sh", "-c", "echo $COORD_KEY")
    shell.start(*words).says("armed").end(signal.SIGTERM)
    shell.do("fire", "m", "first")
    shell.start(*words).prints("first\n").says("armed").end(signal.SIGTERM)


def test_a_bad_cursor_is_2(shell: Shell, tmp_path: Path) -> None:
    """A cursor file that holds something else is named, and nothing runs."""
    cursor = tmp_path / "cursor"
    cursor.write_text("yesterday\n")
    ended = shell.run("on", "m", "--cursor", str(cursor), "--", "echo")
    assert ended[:2] == (2, "")
    assert f"cursor file {cursor}: it holds 'yesterday'" in ended.err


def test_a_cursor_from_a_history_that_has_gone_is_4(shell: Shell, tmp_path: Path) -> None:
    """A cursor to which the history no longer reaches back is history lost."""
    cursor = tmp_path / "cursor"
    cursor.write_text("5.5\n")
    shell.do("fire", "m", "k")
    ended = shell.run("on", "m", "--cursor", str(cursor), "--", "echo")
    assert ended.status == 4
    assert ended.err.endswith(f"; remove {cursor} to start over\n")


def test_a_value_that_the_history_left_out_is_not_made_up(shell: Shell) -> None:
    """A large value that no longer stands is no null: neither variable is set for it, and the record says so."""
    shell.do("pulse", "m", "k", json.dumps("x" * 60_000))
    shell.do("pulse", "m", "k", "7")
    script = 'echo "$COORD_KIND ${COORD_VALUE-unset} ${COORD_TEXT-unset}"; cat'
    old = {"COORD_VALUE": "old", "COORD_TEXT": "old"}
    running = shell.start("on", "m", "--since", "start", "--", "sh", "-c", script, more=old)
    lines = running.says("armed").end(signal.SIGTERM).out.splitlines()
    assert lines[::2] == ["pulsed unset unset", "pulsed 7 7"]
    assert json.loads(lines[1])["value_omitted"] is True


# Its end


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.own_interpreter
def test_a_signal_ends_the_commands_whole_group(shell: Shell) -> None:
    """On SIGTERM the process group of CMD gets SIGTERM, what it started included, and coord goes when it is gone."""
    shell.do("fire", "m", "k")
    script = "sleep 1000 & echo $! $$; wait"
    running = shell.start("on", "m", "--since", "start", "--", "sh", "-c", script).prints("\n")
    pids = [int(word) for word in running.out.split()]
    assert os.getpgid(pids[0]) == os.getpgid(pids[1]) == pids[1] != os.getpgid(running.popen.pid)
    assert running.end(signal.SIGTERM).status == 143
    assert not any(map(_alive, pids))


@pytest.mark.own_interpreter
def test_who_does_not_hear_is_killed(shell: Shell) -> None:
    """A CMD that ignores SIGTERM gets SIGKILL after --grace; an interrupt is 130."""
    shell.do("fire", "m", "k")
    script = "trap '' TERM; echo $$; while :; do sleep 1000; done"
    words = ("on", "m", "--since", "start", "--grace", "200ms", "--", "sh", "-c", script)
    running = shell.start(*words).prints("\n")
    assert running.end(signal.SIGINT).status == 130
    assert not _alive(int(running.out))


@pytest.mark.own_interpreter
def test_a_second_signal_is_impatient(shell: Shell) -> None:
    """A second signal kills at once what the first one asked to end."""
    shell.do("fire", "m", "k")
    words = ("on", "m", "--since", "start", "--grace", "1h", "--", *hearing("SIGTERM"))
    running = shell.start(*words).prints("ready\n")
    running.popen.send_signal(signal.SIGTERM)
    running.prints("SIGTERM\n")
    assert running.end(signal.SIGTERM).status == 143


def test_what_was_interrupted_comes_again(shell: Shell, tmp_path: Path) -> None:
    """A change whose CMD was ended by coord's end is not remembered as handled, whatever CMD exits with."""
    cursor = tmp_path / "cursor"
    shell.do("fire", "m", "k")
    words = ("on", "m", "--since", "start", "--cursor", str(cursor), "--", *hearing("SIGTERM", then=0))
    assert shell.start(*words).prints("ready").end(signal.SIGTERM).out == "ready\nSIGTERM\n"
    assert not cursor.exists()


@pytest.mark.own_interpreter
def test_user_signals_are_passed_on(shell: Shell) -> None:
    """SIGUSR1 and SIGUSR2 are CMD's."""
    shell.do("fire", "m", "k")
    command = hearing("SIGUSR1", "SIGUSR2", then=9)
    running = shell.start("on", "m", "--since", "start", "--", *command).prints("ready\n")
    assert running.end(signal.SIGUSR1)[:2] == (9, "ready\nSIGUSR1\n")


def test_a_command_that_does_not_read_its_stdin_is_no_matter(shell: Shell) -> None:
    """A large record that CMD never reads neither blocks nor breaks anything."""
    shell.do("fire", "m", "k", json.dumps("x" * 60_000))
    running = shell.start("on", "m", "--since", "start", "--", "sh", "-c", "exec <&-; echo done").prints("done\n")
    running.says("armed").end(signal.SIGTERM)


def test_it_waits_for_the_server(own_server: Callable[..., RedisServer], shell_at: Callable[[str], Shell]) -> None:
    """It is patient with a server that comes later."""
    server = own_server()
    server.stop()
    running = shell_at(server.url).start("on", "m", "--", "true").says("waiting for the server")
    server.start()
    assert running.says("armed").end(signal.SIGTERM).status == 143
