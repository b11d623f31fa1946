"""`coord fire`, `pulse`, `fail`, `reset`, `get` and `ls`, as processes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.processes import RedisServer, Shell, Wire


@pytest.mark.own_interpreter
def test_fire_says_first_or_already(shell: Shell) -> None:
    """The first to fire is told so, and the others that they were not."""
    assert shell.run("fire", "m", "k", "1") == (0, "first\n", "")
    assert shell.run("fire", "m", "k", "2") == (0, "already\n", "")
    assert shell.run("fail", "m", "k", "2") == (0, "already\n", "")
    assert shell.run("wait", "m", "k").out == "1\n"


def test_reset_says_first_or_already(shell: Shell) -> None:
    """A reset that changes something is first; of a pending key it is already."""
    assert shell.run("reset", "m", "k").out == "already\n"
    shell.do("fire", "m", "k")
    assert shell.run("reset", "m", "k").out == "first\n"
    assert shell.run("get", "m", "k").status == 3


def test_reset_of_a_revision_spares_another(shell: Shell) -> None:
    """With --revision only that record is taken back."""
    record = json.loads(shell.run("fire", "m", "k", "--json").out)
    assert shell.run("reset", "m", "k", "--revision", "1.1").out == "already\n"
    assert shell.run("reset", "m", "k", "--revision", record["revision"]).out == "first\n"


def test_pulse_leaves_the_key_pending(shell: Shell) -> None:
    """A pulse is first each time, and get sees a pending key."""
    assert shell.run("pulse", "m", "k", "7").out == "first\n"
    ended = shell.run("get", "m", "k")
    assert ended.status == 3
    assert ended.out.split("\t")[:3] == ["k", "pulsed", "7"]


@pytest.mark.parametrize(
    ("words", "stdin", "value"),
    [
        ((), b"", True),
        (("-5",), b"", -5),
        (("007",), b"", "007"),
        (("7", "--string"), b"", "7"),
        (("-",), b'{"a": 1}\n', {"a": 1}),
        (("-",), "é\n".encode(), "é"),
        (("--string", "-"), b"7\n", "7"),
        (("--", "--json"), b"", "--json"),
    ],
)
def test_the_value_is_what_was_typed(shell: Shell, words: tuple[str, ...], stdin: bytes, value: object) -> None:
    """VALUE is JSON or a string, from the command line or stdin."""
    ended = shell.run("fire", "--json", "m", "k", *words, stdin=stdin)
    assert json.loads(ended.out)["value"] == value


def test_json_is_the_record_that_stands_and_first(shell: Shell) -> None:
    """With --json a call prints the whole record, and whether it was first."""
    shell.do("fire", "m", "k", "1", "--node", "other")
    record = json.loads(shell.run("fire", "m", "k", "2", "--json").out)
    assert list(record) == ["map", "key", "kind", "latched", "value", "revision", "time", "node", "first"]
    assert (record["value"], record["node"], record["first"]) == (1, "other", False)


def test_get_shows_what_stands(shell: Shell) -> None:
    """One line: key, kind, value, revision, when, by whom, and how many nodes are subscribed."""
    shell.do("fail", "m", "k", '["no"]')
    ended = shell.run("get", "m", "k")
    assert ended.status == 0
    pattern = r'k\tfailed\t\["no"\]\t\d+\.1\t\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\there\t0\n'
    assert re.fullmatch(pattern, ended.out)


def test_get_takes_several_keys(shell: Shell) -> None:
    """A line a key, in the order of the command line; one that is pending is enough for 3."""
    for key in ("a", "-b"):
        shell.do("fire", "--", "m", key)
    ended = shell.run("get", "m", "a", "--key=-b", "a")
    assert (ended.status, [line.split("\t")[0] for line in ended.out.splitlines()]) == (0, ["a", "-b"])
    assert shell.run("get", "m", "zz", "a", "--json").out.count("\n") == 2
    assert shell.run("get", "m", "a", "zz", "-q") == (3, "", "")
    assert shell.run("get", "m", "a", "-q") == (0, "", "")
    assert shell.run("get", "m", "a", "").status == 2


def test_since_passes_over_what_is_older(shell: Shell) -> None:
    """With a time ls and watch show what is younger, by the server's clock; ls also what is after a revision."""
    first = json.loads(shell.do("fire", "m", "a", "--json").out)["revision"]
    shell.do("fire", "m", "b")
    for command in (("ls", "m"), ("watch", "m", "--no-follow")):
        assert len(shell.run(*command, "--since", "1h").out.splitlines()) == 2
        assert shell.run(*command, "--since", "0ms").out == ""
    assert [line.split("\t")[0] for line in shell.run("ls", "m", "--since", first).out.splitlines()] == ["b"]
    ended = shell.run("on", "m", "--since", "1h", "--", "sh", "-c", "exit 7")
    assert ended.status == 7


def test_ls_says_nothing_if_asked_to(shell: Shell) -> None:
    """With -q the revision is not said."""
    shell.do("fire", "m", "k")
    assert shell.run("ls", "m", "-q").err == ""


def test_get_counts_who_waits(shell: Shell) -> None:
    """A pending key is 3, and shows how many nodes wait for it."""
    waiting = shell.start("wait", "m", "k").says("armed")
    assert shell.run("get", "m", "k") == (3, "k\tpending\t-\t-\t-\t-\t1\n", "")
    record = json.loads(shell.run("get", "m", "k", "--json").out)
    assert (record["latched"], record["kind"], record["subscribers"]) == (False, None, 1)
    shell.do("fire", "m", "k")
    waiting.end()


@pytest.mark.parametrize("refusal", ["renamed", "command", "subcommand"])
def test_a_count_that_the_server_refuses_is_left_out(
    own_server: Callable[..., RedisServer], shell_at: Callable[[str], Shell], refusal: str
) -> None:
    """Where PUBSUB is renamed away or not permitted, get and ls show the records all the same, without the count."""
    server = own_server(*(("--rename-command", "PUBSUB", "") if refusal == "renamed" else ()))
    if refusal != "renamed":
        missing = "-pubsub" if refusal == "command" else "-pubsub|numsub"
        server.do("ACL", "SETUSER", "default", "+@all", missing)
    shell = shell_at(server.url)
    shell.do("fire", "m", "a", "1")
    shell.do("fire", "m", "b", "2")
    got = shell.run("get", "m", "a")
    assert got.status == 0, got
    assert (got.out.split("\t")[:3], got.out.split("\t")[-1], got.err) == (["a", "fired", "1"], "-\n", "")
    assert shell.run("get", "m", "none") == (3, "none\tpending\t-\t-\t-\t-\t-\n", "")
    listed = shell.run("ls", "m")
    assert listed.status == 0
    assert [line.split("\t")[-1] for line in listed.out.splitlines()] == ["-", "-"]
    for words in (("get", "--json", "m", "a"), ("ls", "--json", "m", "a")):
        shown = json.loads(shell.run(*words).out)
        assert shown["value"] == 1
        assert "subscribers" not in shown


def test_ls_lists_by_prefix(shell: Shell) -> None:
    """The records whose keys begin with PREFIX, in order, and as of which revision on stderr."""
    for key in ("a/2", "a/1", "b"):
        shell.do("fire", "m", key, f'"v{key}"')
    ended = shell.run("ls", "m", "a/")
    assert [line.split("\t")[:3] for line in ended.out.splitlines()] == [
        ["a/1", "fired", "va/1"],
        ["a/2", "fired", "va/2"],
    ]
    assert re.fullmatch(r"coord: as of \d+\.3\n", ended.err)
    records = [json.loads(line) for line in shell.run("ls", "m", "--json").out.splitlines()]
    assert [it["key"] for it in records] == ["a/1", "a/2", "b"]
    assert records[0]["subscribers"] == 0


def test_ls_of_nothing_is_nothing(shell: Shell) -> None:
    """A map without data has no lines, exit code 3 and a hint on stderr; a prefix without keys has no hint."""
    ended = shell.run("ls", "mistyped")
    assert ended == (3, "", "coord: there is no map mistyped; coord ls lists the maps\n")
    shell.do("fire", "m", "k")
    shell.do("fire", "mounts", "k")
    said = "coord: there is no map muonts (did you mean mounts?); coord ls lists the maps\n"
    assert shell.run("ls", "muonts") == (3, "", said)
    ended = shell.run("ls", "m", "x")
    assert ended[:2] == (0, "")
    assert re.fullmatch(r"coord: as of \d+\.1\n", ended.err)


def test_ls_lists_the_maps(shell: Shell) -> None:
    """Without MAP: their names, in order, a line each, or as JSON."""
    assert shell.run("ls") == (0, "", "")
    for name in ("b", "a.1"):
        shell.do("fire", name, "k")
    assert shell.run("ls") == (0, "a.1\nb\n", "")
    assert shell.run("ls", "--json").out == '{"map":"a.1"}\n{"map":"b"}\n'


def test_ls_of_many_keys_prints_as_they_come(shell: Shell, shared_server: RedisServer) -> None:
    """More than 10,000 keys come in no order, each as it would in order, and stderr says so."""
    shell.do("fire", "m", "k1")
    records = f"coord:{{{shell.env['COORD_NAMESPACE']}/m}}"
    script = (
        "local r = redis.call('HGET', KEYS[1], 'k1') for i = 2, 10001 do redis.call('HSET', KEYS[1], 'k' .. i, r) end"
    )
    shared_server.do("EVAL", script, "1", records)
    many = shell.run("ls", "m")
    assert many.status == 0
    assert sorted(line.split("\t")[0] for line in many.out.splitlines()) == sorted(f"k{i}" for i in range(1, 10_002))
    assert many.err.startswith("coord: a large map: its keys are not sorted\ncoord: as of ")
    shared_server.do("HDEL", records, "k10001")
    few = shell.run("ls", "m").out.splitlines()
    assert [line.split("\t")[0] for line in few] == sorted(f"k{i}" for i in range(1, 10_001))
    assert sorted(few) == sorted(line for line in many.out.splitlines() if not line.startswith("k10001\t"))


def test_foreign_keys_are_shown_escaped_and_removed(shell: Shell, shared_server: RedisServer) -> None:
    """What can be no key reaches neither the terminal nor CMD as it is; it is named, and reset --foreign removes it."""
    since = json.loads(shell.run("fire", "m", "good", "--json").out)["revision"]
    generation, number = map(int, since.split("."))
    records = f"coord:{{{shell.env['COORD_NAMESPACE']}/m}}"
    foreign, line = "\x1b[2Jforged\nline", f'["fired",[{generation},{number + 1}],1,"n"]\n1'
    shared_server.do("HSET", records, foreign, line)
    shared_server.do("XADD", f"{records}:log", f"{generation}-{number + 1}", foreign, line)
    shared_server.do("XADD", f"{records}:log", f"{generation}-{number + 2}", "what", "ever")
    listed = shell.run("ls", "m")
    assert listed.status == 65
    assert r"coord: '\x1b[2Jforged\nline': its record" in listed.err
    assert "coord: coord reset m --foreign removes the names that are not valid keys" in listed.err
    watching = shell.start("watch", "m", "--since", "start")
    watching.says("the history was not written by coord")
    watching.prints("good")
    handling = shell.start("on", "m", "--since", "start", "--", "sh", "-c", 'echo "got $COORD_KEY"')
    handling.prints("got good")
    for process in (watching, handling):
        ended = process.end(2)
        assert "forged" not in ended.out
        assert r"\x1b[2Jforged\nline was not written by coord; the watch skips it" in ended.err
    assert shell.run("reset", "m", "--foreign", "--json").out == '{"map":"m","removed":"\\\\x1b[2Jforged\\\\nline"}\n'
    assert shell.run("reset", "m", "--foreign") == (0, "", "")
    assert shell.run("ls", "m").status == 0
    assert shell.run("reset", "m").status == 2
    assert shell.run("reset", "m", "k", "--foreign").status == 2


def test_a_broken_record_is_named_and_repaired(shell: Shell, shared_server: RedisServer) -> None:
    """Foreign junk under a key is an error that names the key, hurts no other, and a reset repairs it."""
    shell.do("fire", "m", "good")
    shared_server.do("HSET", f"coord:{{{shell.env['COORD_NAMESPACE']}/m}}", "bad", "junk")
    ended = shell.run("get", "m", "bad")
    assert ended[:2] == (65, "")
    assert "bad" in ended.err
    listed = shell.run("ls", "m")
    assert [line.split("\t")[0] for line in listed.out.splitlines()] == ["good"]
    assert listed.status == 65
    assert "coord: bad: " in listed.err
    shell.do("reset", "m", "bad")
    assert shell.run("get", "m", "bad").status == 3


def test_a_server_that_is_not_there_is_69(shell_at: Callable[[str], Shell]) -> None:
    """The server that cannot be reached is named, without its password."""
    shell = shell_at("redis://me:secret@127.0.0.1:1/3")
    for words in (("fire", "m", "k"), ("get", "m", "k"), ("ls", "m"), ("wait", "m", "k", "--timeout", "0")):
        ended = shell.run(*words, "--connect-timeout", "200ms")
        assert ended[:2] == (69, "")
        assert "no server at redis://127.0.0.1:1/3 within 0.2s: " in ended.err
        assert "secret" not in ended.err
    quick = shell.run("fire", "m", "k", "--timeout", "100ms")
    assert quick.status == 69


def test_a_server_that_refuses_is_69(own_server: Callable[..., RedisServer], shell_at: Callable[[str], Shell]) -> None:
    """Out of memory is passed on in the server's words."""
    server = own_server("--maxmemory", "1")
    ended = shell_at(server.url).run("fire", "m", "k")
    assert ended.status == 69
    assert "OOM" in ended.err or "memory" in ended.err


def test_a_call_without_an_answer_is_75(
    shared_server: RedisServer, shell_at: Callable[[str], Shell], tmp_path: Path
) -> None:
    """A call that was sent and not answered is unconfirmed."""
    with Wire(tmp_path / "s", shared_server.socket, until=b"needle") as wire:
        ended = shell_at(wire.url).run("fire", "m", "needle", "--timeout", "500ms")
    assert ended[:2] == (75, "")
    assert "may" in ended.err


def test_a_password_comes_from_the_environment(
    own_server: Callable[..., RedisServer], shell_at: Callable[[str], Shell], tmp_path: Path
) -> None:
    """COORD_PASSWORD, COORD_PASSWORD_FILE or the URL let us in; without, or with a wrong one, it is 77."""
    server = own_server("--requirepass", "secret")
    shell = shell_at(server.url)
    file = tmp_path / "file"
    file.write_text("secret\n")
    assert shell.run("fire", "m", "k", more={"COORD_PASSWORD": "secret"}).status == 0
    assert shell.run("fire", "m", "k", more={"COORD_PASSWORD_FILE": str(file)}).status == 0
    url = server.url.replace("unix://", "unix://:secret@")
    assert shell.run("fire", "m", "k", "--url", url, more={"COORD_PASSWORD": "wrong"}).status == 0
    for wrong in ({}, {"COORD_PASSWORD": "wr0ng"}):
        for words in (("fire", "m", "k"), ("wait", "m", "k"), ("watch", "m")):
            ended = shell.run(*words, more=wrong)
            assert ended[:2] == (77, "")
            assert "denied" in ended.err
            assert "wr0ng" not in ended.err
    file.write_text("\n")
    assert shell.run("fire", "m", "k", more={"COORD_PASSWORD_FILE": str(file)}).status == 2
    missing = shell.run("fire", "m", "k", more={"COORD_PASSWORD_FILE": "/no/such"})
    assert missing.status == 2
    assert "COORD_PASSWORD_FILE: cannot read /no/such: No such file" in missing.err


def test_options_may_stand_before_the_command(shell_at: Callable[[str], Shell], shared_server: RedisServer) -> None:
    """What says which server may stand before or behind the command's name; the last word is the command's."""
    shell = shell_at("redis://127.0.0.1:1")
    assert shell.run("--url", shared_server.url, "--node", "a", "fire", "m", "k").status == 0
    record = json.loads(shell.run("--node", "a", "get", "m", "k", "--url", shared_server.url, "--json").out)
    assert record["node"] == "a"
    elsewhere = shell.run("get", "m", "k", "--url", shared_server.url, "--namespace", "elsewhere")
    assert elsewhere.status == 3
