"""Names and keys: every rule of docs/semantics.md, "Values, names, limits", and what a map is called in Redis."""

from __future__ import annotations

import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coord.core.names import (
    HEAD,
    MAX_KEY_BYTES,
    MapNames,
    check_key,
    check_name,
    node_channel,
    parse_key,
    printable_field,
)
from coord.core.quoting import quoted
from coord.errors import InvalidKey, InvalidName

# Python is not willing to write it in decimal; nor is pytest.
HUGE = pytest.param(10**5000, id="huge")
ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.binary(),
    st.text(),
    st.lists(st.integers()),
    st.builds(pow, st.just(10), st.just(5000)),
)


class Word(str):
    """A string of somebody's own class."""

    __slots__ = ()


@pytest.mark.parametrize("name", ["a", "default", "A-Z_a.z-09", "-", "..", "x" * 128])
def test_a_name_is_letters_digits_dots_underscores_and_hyphens(name: str) -> None:
    """What the rule allows comes back as it is."""
    assert check_name("map", name) == name


@pytest.mark.parametrize(
    "name",
    ["", "x" * 129, "a b", "a/b", "a{b}", "a:b", "é", "٣", "a\n", "\na", "a\0", b"abc", None, 7, Path("a"), HUGE],
)
def test_any_other_name_is_refused(name: object) -> None:
    """The error names what the name is for, the offender and the rule."""
    with pytest.raises(InvalidName, match=r"map .*letters") as refusal:
        check_name("map", name)
    assert len(str(refusal.value)) < 300


@pytest.mark.parametrize(
    ("key", "encoded"),
    [
        ("abc", b"abc"),
        ("/mnt/abc", b"/mnt/abc"),
        ("node1:/mnt/a b", b"node1:/mnt/a b"),
        ("{x}", b"{x}"),
        ("*?[a]", b"*?[a]"),
        ("é", b"\xc3\xa9"),
        ("\N{NO-BREAK SPACE}", b"\xc2\xa0"),
        ("\u200b", b"\xe2\x80\x8b"),
        ("\U0001f600", b"\xf0\x9f\x98\x80"),
        (Word("word"), b"word"),
        ("x" * MAX_KEY_BYTES, b"x" * MAX_KEY_BYTES),
        ("é" * (MAX_KEY_BYTES // 2), "é".encode() * (MAX_KEY_BYTES // 2)),
    ],
)
def test_a_key_is_1_to_512_bytes_of_utf8(key: str, encoded: bytes) -> None:
    """Anything that a person could see is allowed, also what means something to Redis or to a shell."""
    assert check_key(key) == encoded


@pytest.mark.parametrize(
    ("key", "rule"),
    [
        ("", "1 to 512 bytes"),
        ("x" * 513, "not 513"),
        ("é" * 257, "not 514"),
        ("a\0b", "control"),
        ("a\nb", "control"),
        ("\x1b[2J", "control"),
        ("\x7f", "control"),
        ("\x80", "control"),
        ("\x9f", "control"),
        ("\ud800", "surrogate"),
        (b"abc", "not bytes"),
        (bytearray(b"abc"), "not bytearray"),
        (Path("/mnt/abc"), "not PosixPath"),
        (None, "not NoneType"),
        (7, "not int"),
        pytest.param(10**5000, "not int", id="huge"),
        (["a"], "not list"),
    ],
)
def test_any_other_key_is_refused(key: object, rule: str) -> None:
    """Bytes and paths are not guessed at; the error says which rule was broken, in one short printable line."""
    with pytest.raises(InvalidKey, match=rule) as refusal:
        check_key(key)
    assert str(refusal.value).isprintable()
    assert len(str(refusal.value)) < 300


@settings(deadline=None, derandomize=True, database=None)
@given(ANYTHING)
def test_nothing_but_the_documented_error_is_raised(thing: object) -> None:
    """Whatever somebody uses as a name or a key."""
    with suppress(InvalidKey):
        assert check_key(thing).decode() == thing
    with suppress(InvalidName):
        assert check_name("node", thing) == thing


@settings(deadline=None, derandomize=True, database=None)
@given(st.text(min_size=1))
def test_a_channel_gives_its_key_back(key: str) -> None:
    """The way to Redis and back loses nothing."""
    names = MapNames("default", "mount", 3)
    try:
        channel = names.channel(key)
    except InvalidKey:
        return
    assert names.key_of(channel) == key


def test_everything_of_a_map_carries_one_hash_tag_and_channels_the_database() -> None:
    """The names of docs/architecture.md, "What is in Redis"."""
    names = MapNames("lab", "mount", 7)
    assert names.records == b"coord:{lab/mount}"
    assert names.log == b"coord:{lab/mount}:log"
    assert names.due == b"coord:{lab/mount}:due"
    assert names.doorbell == b"coord:7:{lab/mount}"
    assert names.channel("/mnt/é") == b"coord:7:{lab/mount}:/mnt/\xc3\xa9"
    assert node_channel(7, "1234") == b"coord:7:node:1234"


@pytest.mark.parametrize("field", [HEAD, b"\0call:1234"])
def test_no_key_is_taken_for_the_head_or_an_outcome(field: bytes) -> None:
    """They are fields beside the keys, under names that are no keys."""
    with pytest.raises(InvalidKey):
        check_key(field.decode())


FOREIGN = {
    b"": "",
    b"\x1b[31mred": r"\x1b[31mred",
    b"two\nlines": r"two\nlines",
    b"nul\0": r"nul\x00",
    b"\x7f": r"\x7f",
    "c1\x9b2J".encode(): r"c1\x9b2J",
    b"latin-\xe9": r"latin-\xe9",
    b"\xed\xa0\x80": r"\xed\xa0\x80",
    b"k" * 513: "k" * 197 + "...",
    b"\x1b" * 300: (r"\x1b" * 50)[:197] + "...",
    "\x1b\u202eright".encode(): r"\x1b\u202eright",
}


@pytest.mark.parametrize(("field", "shown"), FOREIGN.items())
def test_a_foreign_field_is_no_key_and_is_shown_escaped(field: bytes, shown: str) -> None:
    """What the rules of keys forbid is told from a key, whatever its bytes, and shown in a line of its own."""
    assert parse_key(field) is None
    assert printable_field(field) == shown
    assert shown.isprintable()


@pytest.mark.parametrize("key", ["k", "/mnt/é", "\u202e", "back\\slash", "k" * 512, " "])
def test_a_key_is_its_own_field(key: str) -> None:
    """Whatever may be fired is found again under its name, and named so."""
    field = check_key(key)
    assert parse_key(field) == printable_field(field) == key


def test_a_map_of_a_bad_name_is_never_made() -> None:
    """Both parts are checked before anything is called by them."""
    with pytest.raises(InvalidName, match="namespace"):
        MapNames("a/b", "mount", 0)
    with pytest.raises(InvalidName, match="map"):
        MapNames("lab", "", 0)


@pytest.mark.parametrize("key", ["/mnt/abc", "node1:/mnt/abc", "v1.2", "a=b,c@d%e+f_g-h", "é", "日本", "-k"])
def test_a_plain_key_is_shown_as_it_is(key: str) -> None:
    """Letters of any script, digits and the usual punctuation need no quotes."""
    assert quoted(key) == key


ODD_KEYS = {
    "a  b": "'a  b'",
    "a ": "'a '",
    " ": "' '",
    "": "''",
    "a\u00a0b": r"$'a\xc2\xa0b'",
    "a\u3000": r"$'a\xe3\x80\x80'",
    "\u202eb": r"$'\xe2\x80\xaeb'",
    "a\u200bb": r"$'a\xe2\x80\x8bb'",
    "a\x1b[2J": r"$'a\x1b[2J'",
    "a\x9b": r"$'a\xc2\x9b'",
    "one\ntwo": r"$'one\x0atwo'",
    "it's": """'it'"'"'s'""",
    "it's\u00a0\\": r"$'it\'s\xc2\xa0\\'",
    "a\\b": r"'a\b'",
    "$HOME": "'$HOME'",
    "*": "'*'",
    "~root": "'~root'",
    "#": "'#'",
    "a;b": "'a;b'",
    "a, b": "'a, b'",
}


@pytest.mark.parametrize("key", ODD_KEYS, ids=ascii)
def test_another_key_is_quoted_for_a_shell(key: str) -> None:
    """What a shell would split or expand is quoted; what cannot be told from something else is escaped."""
    assert quoted(key) == ODD_KEYS[key]
    assert quoted(key).isprintable()


def test_a_shell_reads_back_what_was_quoted() -> None:
    """Typed into a shell, a quoted key is that key again."""
    if shutil.which("bash") is None:
        pytest.skip("needs bash, whose $'...' is tried")
    script = "\n".join(f"printf '%s\\0' {quoted(key)}" for key in ODD_KEYS)
    read = subprocess.run(["bash", "-c", script], capture_output=True, check=True).stdout
    assert read.decode().split("\0")[:-1] == list(ODD_KEYS)
