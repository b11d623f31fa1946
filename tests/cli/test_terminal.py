"""Nothing that a terminal would obey, or show as what it is not, reaches it: whatever the keys and values hold."""

from __future__ import annotations

import json
import os
import sys
import unicodedata
from collections.abc import Callable

import pytest

from cli.processes import PATIENCE, RedisServer, Shell, Typist
from coord.cli._escapes import escaped, is_plain

_UNSAFE = {"Cc", "Cf", "Cs", "Zl", "Zp"}

# What may stand in a key: no control characters, but the rest of the kind.
KEY = "a\u202eb\u2066c\u200f\u061c\u2028d\xade\ufefff\U000e0041"
# Escape sequences of 7 and of 8 bits, a line of somebody else's, and an overlong one in C1.
CORPUS = [
    "\x1b[2J\x1b]0;owned\x07",
    "\x9b2J\x9d0;owned\x9c",
    "\x7f\x08\x08\x00",
    "a\r\nforged  fired  true",
    "a\u2028forged\u2029\x85line",
    *"\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c",
    "zero\u200bwidth\u200djoiner\u2060\ufeff",
    "\U000e0001\U000e0068\U000e0069",
]


def unsafe(text: str, keep: str = "\n\t") -> set[str]:
    """Return the characters that have no business on a terminal."""
    return {character for character in text if unicodedata.category(character) in _UNSAFE} - set(keep)


def test_all_characters_of_the_kind_are_escaped() -> None:
    """Of all of Unicode, as this Python knows it, each control and format character and no letter."""
    known = map(chr, range(sys.maxunicode + 1))
    passed = [each for each in known if is_plain(each) != (unicodedata.category(each) not in _UNSAFE)]
    # Reserved for the same, or made so by a later Unicode.
    assert {unicodedata.category(each) for each in passed} <= {"Cn", "Mn", "Lo"}
    assert len([each for each in passed if not is_plain(each)]) == len(passed) < 4096


@pytest.mark.parametrize("text", CORPUS, ids=ascii)
def test_json_stays_the_same_json(text: str) -> None:
    """Escaped within JSON, a string is what it was; and escaped anywhere nothing is left."""
    whole = json.dumps({text: [text]}, ensure_ascii=False)
    assert json.loads(escaped(whole)) == {text: [text]}
    assert not unsafe(escaped(whole) + escaped(text), keep="")


@pytest.fixture
def planted(shell: Shell, shared_server: RedisServer) -> Shell:
    """Return a shell on a map that holds the corpus, as keys, strings, lists, objects and names in them."""
    shell.do("fire", "m", KEY, json.dumps({text: [text] for text in CORPUS}, ensure_ascii=True))
    shell.do("fire", "m", "string", json.dumps("".join(CORPUS)))
    shell.do("pulse", "m", f"p{KEY}", json.dumps(CORPUS))
    shell.do("fail", "m", f"x{KEY}", json.dumps(CORPUS))
    shell.do("fire", "m", "gone")
    shell.do("reset", "m", "gone")
    shared_server.do("HSET", f"coord:{{{shell.env['COORD_NAMESPACE']}/m}}", f"corrupt{KEY}", "\x1b[2Jno record")
    return shell


_COMMANDS: list[tuple[str, ...]] = [
    ("wait", "m", KEY),
    ("wait", "--json", "m", KEY),
    ("wait", "m", KEY, "string"),
    ("wait", "--any", "m", "string"),
    ("wait", "--json", "m", "string"),
    ("wait", "m", f"x{KEY}"),
    ("wait", "--json", "m", f"x{KEY}"),
    ("wait", "--timeout", "0", "m", f"n{KEY}"),
    ("wait", "--timeout", "10ms", "m", f"n{KEY}"),
    ("wait", "--timeout", "0", "m", f"corrupt{KEY}"),
    ("wait", "--gone", "m", f"n{KEY}"),
    ("wait", "--gone", "--json", "m", f"p{KEY}", "gone"),
    ("wait", "--gone", "--timeout", "0", "m", KEY),
    ("wait", "--gone", "--timeout", "10ms", "m", KEY),
    ("count", "m", f"c{KEY}", "--who", "\u202e"),
    ("count", "--json", "m", f"c{KEY}", "--who", "\u2066"),
    ("count", "m", KEY, "\u202e"),
    ("count", "m", KEY),
    ("wait", "--at-least", "9", "--timeout", "10ms", "m", f"c{KEY}"),
    ("wait", "--at-least", "1", "m", f"c{KEY}"),
    ("expire", "m", KEY, "\u202e"),
    ("expire", "--json", "m", KEY, "5s"),
    ("get", "m", KEY),
    ("get", "--json", "m", KEY),
    ("get", "m", f"corrupt{KEY}"),
    ("get", "m", "k\x9b"),
    ("ls", "m"),
    ("ls", "--json", "m"),
    ("ls", "m", KEY),
    ("watch", "m", "--since", "start", "--no-follow"),
    ("watch", "m", "--since", "start", "--no-follow", "--json"),
    ("fire", "m", KEY, '"\u202e"'),
    ("fire", "--json", "m", f"new{KEY}", '"\u202e"'),
    ("pulse", "--json", "m", KEY, '"\x9b"'),
    ("fail", "--json", "m", f"x{KEY}", "\u202e"),
    ("fire", "m", f"corrupt{KEY}"),
    ("reset", "--json", "m", KEY),
    ("fire", "m", "k", "--replicas", "1", "--within", "1ms", "--node", "\u202e"),
    ("ls", "m", "--namespace", "\x9b2J"),
    ("fly\x9b",),
    ("get", "m", "k", "--url", "redis://h\x9b"),
    ("get", "m", "k", "--\u202e"),
]


def test_no_command_passes_them_on(planted: Shell) -> None:
    """Neither lines, nor --json, nor what is said on stderr holds one of them."""
    assert planted.typist is not None
    for words in _COMMANDS:
        _, out, err = planted.typist.type(words, planted.env)
        # A lone string is what it is: `coord wait` is how programs get it.
        alone = words == ("wait", "--any", "m", "string")
        assert not unsafe(err if alone else out + err), words
        assert out or err, words
    shown = planted.typist.type(("ls", "--json", "m"), planted.env).out.splitlines()
    assert {json.loads(line)["key"] for line in shown} >= {f"p{KEY}", f"x{KEY}", "string"}


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        ("a  b", "'a  b'"),
        ("a ", "'a '"),
        ("a\u00a0b", r"$'a\xc2\xa0b'"),
        ("a\u202eb", r"$'a\xe2\x80\xaeb'"),
        ("a\u200bb", r"$'a\xe2\x80\x8bb'"),
        ("it's", """'it'"'"'s'"""),
    ],
)
def test_sentences_show_a_key_as_a_shell_needs_it(
    shell: Shell, shared_server: RedisServer, key: str, shown: str
) -> None:
    """Pending, timed out, failed, not replicated or corrupt: the key in the sentence can be typed into a shell."""
    assert shell.typist is not None

    def said(*words: str) -> str:
        assert shell.typist is not None
        return shell.typist.type(words, shell.env).err

    assert said("wait", "m", key, "--timeout", "0") == f"coord: pending: {shown}\n"
    assert f"waiting for {shown}, k" in said("wait", "m", key, "k", "--timeout", "10ms")
    assert said("fire", "m", key, "--replicas", "1", "--within", "1ms").startswith(f"coord: {shown}: applied, but ")
    assert f" failed with 3 for {shown} at " in said("on", "m", "--since", "start", "--", "sh", "-c", "exit 3")
    shell.do("fail", "n", key, "no  reason")
    assert said("wait", "n", key) == f"coord: {shown} failed: no  reason\n"
    shared_server.do("HSET", f"coord:{{{shell.env['COORD_NAMESPACE']}/c}}", key, "x")
    looks = (("get", "c", key), ("fire", "c", key), ("wait", "c", key), ("ls", "c"), ("reset", "c", "--prefix", key))
    for words in looks:
        assert f"coord: {shown}: " in said(*words)


def test_on_gives_its_command_what_there_is(planted: Shell) -> None:
    """CMD is no terminal: it gets the record as JSON, while what is said of it is escaped."""
    command = 'cat >/dev/null; test "$COORD_KIND" = fired'
    ended = planted.start("on", "m", f"p{KEY}", "--since", "start", "--", "sh", "-c", command).end()
    assert ended.status == 1
    assert "sh failed with 1 for" in ended.err
    assert not unsafe(ended.out + ended.err)


def test_with_debugging_too(shell_at: Callable[[str], Shell]) -> None:
    """The log and the tracebacks that COORD_DEBUG=1 shows are escaped."""
    ended = shell_at("redis://127.0.0.1:1").run(
        "get", "m", "k\u202e", "--connect-timeout", "50ms", more={"COORD_DEBUG": "1"}
    )
    assert ended.status == 69
    assert not unsafe(ended.err)


@pytest.mark.parametrize("terminal", [True, False])
def test_a_lone_string_is_raw_for_programs_only(shell: Shell, terminal: bool) -> None:
    """`coord wait` hands a string on as it is, so that a script gets it; but not to a terminal."""
    text = "one\n\ttwo \x1b[2J\u202e"
    shell.do("fire", "m", "k", json.dumps(text))
    ours, theirs = os.openpty() if terminal else os.pipe()
    # Not through Process: it would make a pipe.
    process = shell.start("wait", "m", "k", stdout=theirs)
    os.close(theirs)
    assert process.popen.wait(PATIENCE) == 0
    with os.fdopen(ours, "rb", buffering=0) as reading:
        printed = reading.read(1000).decode().replace("\r\n", "\n")
    assert printed == ("one\n\ttwo \\u001b[2J\\u202e\n" if terminal else f"{text}\n")


def test_doctor_does_not_pass_on_a_servers_words(shell: Shell, typist: Typist) -> None:
    """What the doctor prints has been looked through, too."""
    _, out, err = typist.type(("doctor",), shell.env)
    assert not unsafe(out + err)
