"""Records in columns, for a terminal of some width."""

from __future__ import annotations

import os
import struct
import termios
from fcntl import ioctl

import pytest

from cli.processes import PATIENCE, Shell
from coord.cli._table import COLUMNS, layout, width_of

LINE = ("/mnt/backup/2026-11-28", "fired", '{"node":"node1"}', "1795368361942752.17", "19:27:06", "laptop", "0")


def _shown(*lines: tuple[str, ...], room: int) -> dict[str, int]:
    return {COLUMNS[at]: width for at, width in layout(lines, room).items()}


def test_a_wide_terminal_shows_all_as_it_is() -> None:
    """Each column is as wide as its longest field or its name."""
    widths = _shown(LINE, ("k", "pending", "-", "-", "-", "-", "0"), room=200)
    assert widths == {"KEY": 22, "KIND": 7, "VALUE": 16, "REVISION": 19, "TIME": 8, "NODE": 6, "SUBS": 4}


@pytest.mark.parametrize(
    ("room", "names"),
    [
        (92, ("KEY", "KIND", "VALUE", "REVISION", "TIME", "NODE", "SUBS")),
        (91, ("KEY", "KIND", "VALUE", "TIME", "NODE", "SUBS")),
        (70, ("KEY", "KIND", "VALUE", "TIME", "NODE")),
        (60, ("KEY", "KIND", "VALUE", "TIME")),
        (40, ("KEY", "KIND", "VALUE")),
    ],
)
def test_a_narrow_one_leaves_columns_out(room: int, names: tuple[str, ...]) -> None:
    """What can be had elsewhere goes first; key, kind and a part of the value stay."""
    assert tuple(_shown(LINE, room=room)) == names


def test_a_column_is_there_if_any_line_has_it() -> None:
    """Of lines of which one has an end all leave room for it."""
    lines = (LINE, (*LINE, "in 59 s"))
    assert _shown(*lines, room=200)["EXPIRES"] == 7
    assert "EXPIRES" not in _shown(*lines, room=24)
    assert "EXPIRES" not in _shown(LINE, room=200)


@pytest.mark.parametrize("room", range(30, 200, 7))
@pytest.mark.parametrize("more", [0, 300])
def test_a_line_fits_the_terminal(room: int, more: int) -> None:
    """No layout is wider than the terminal, however long keys and values are, and what is free is used."""
    line = (LINE[0] + "x" * more, LINE[1], LINE[2] + "y" * more, *LINE[3:])
    widths = layout([line], room)
    used = sum(widths.values()) + 2 * (len(widths) - 1)
    assert used <= room
    assert used == room or (widths[0], widths[2]) == (len(line[0]), len(line[2]))


def test_wide_and_combining_characters_are_counted() -> None:
    """A character takes two columns, one or none, as the terminal shows it."""
    assert [width_of(text) for text in ("ab", "\u00e9", "e\u0301", "\u65e5\u672c", "\uff21")] == [2, 1, 1, 4, 2]


def _on_terminal(shell: Shell, columns: int, *words: str) -> list[str]:
    ours, theirs = os.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = shell.start(*words, stdout=theirs, more={"COLUMNS": ""})
    os.close(theirs)
    printed = b""
    with os.fdopen(ours, "rb", buffering=0) as reading:
        while data := _read(reading.fileno()):
            printed += data
    process.popen.wait(PATIENCE)
    return printed.decode().splitlines()


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 1 << 16)
    except OSError:
        # EIO: the other side of the terminal was closed.
        return b""


@pytest.mark.parametrize("command", [("ls", "m"), ("watch", "m", "--since", "start", "--no-follow"), ("get", "m", "a")])
def test_a_terminal_gets_a_table_and_a_pipe_plain_lines(shell: Shell, command: tuple[str, ...]) -> None:
    """On a terminal there are a header and columns within its width, in a pipe fields between tabs and no header."""
    shell.do("fire", "m", "a", '"' + "v" * 300 + '"')
    wide, narrow = (_on_terminal(shell, columns, *command) for columns in (110, 40))
    assert wide[0].split() == list(COLUMNS[: len(wide[0].split())])
    assert {"REVISION", "TIME", "NODE"} < {*wide[0].split()}
    assert [line.split()[:2] for line in (wide[1], narrow[1])] == [["a", "fired"]] * 2
    assert wide[1].index("fired") == wide[0].index("KIND")
    assert 100 < max(map(len, wide)) <= 110
    assert max(map(len, narrow)) <= 40
    assert "\t" not in "".join(wide)
    assert shell.run(*command).out.split("\t")[:2] == ["a", "fired"]


def test_a_watch_makes_room_for_a_longer_key(shell: Shell) -> None:
    """A key that is longer than those before takes its place from a short value, and stays whole."""
    shell.do("fire", "m", "a")
    shell.do("fire", "m", "k" * 40)
    lines = _on_terminal(shell, 100, "watch", "m", "--since", "start", "--no-follow")
    assert lines[2].split()[:3] == ["k" * 40, "fired", "true"]
    assert lines[2].index("here") == lines[1].index("here") == lines[0].index("NODE")


def test_the_help_fits_the_terminal(shell: Shell) -> None:
    """The help is as wide as the terminal, up to 100 columns."""
    widest = [max(map(len, _on_terminal(shell, columns, "fire", "--help"))) for columns in (60, 120)]
    assert widest[0] <= 60
    assert 80 < widest[1] <= 100
