"""The file in which `on` remembers how far it has come."""

from __future__ import annotations

from pathlib import Path

import pytest

from coord import InvalidInput, Revision
from coord.cli._cursor import Cursor
from coord.cli._exits import CannotWrite


def test_it_remembers(tmp_path: Path) -> None:
    """What was moved to is there the next time, and no other file is."""
    path = tmp_path / "cursor"
    cursor = Cursor(path)
    assert not path.exists()
    cursor.move(Revision(17, 3))
    assert Cursor(path).revision == cursor.revision == Revision(17, 3)
    assert path.read_text() == "17.3\n"
    assert [each.name for each in tmp_path.iterdir()] == ["cursor"]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    """What a symbolic link points to is replaced, not the link."""
    (tmp_path / "link").symlink_to(tmp_path / "real")
    Cursor(tmp_path / "link").move(Revision(1, 2))
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "1.2\n"


@pytest.mark.parametrize("content", [b"", b"17", b"17.3\n18.4\n", b"\xff\xfe", b"x" * 1000, b"-1.3"])
def test_what_is_no_revision_is_refused(tmp_path: Path, content: bytes) -> None:
    """A file that holds something else is named, and what to do about it."""
    path = tmp_path / "cursor"
    path.write_bytes(content)
    with pytest.raises(InvalidInput, match=r"cursor file .*/cursor: .* remove it to begin anew"):
        Cursor(path)


def test_a_place_that_cannot_be_written_is_refused_at_once(tmp_path: Path) -> None:
    """A missing directory, and a directory instead of a file, are noticed before anything runs."""
    with pytest.raises(InvalidInput, match=r"cursor file .*/nowhere/cursor"):
        Cursor(tmp_path / "nowhere" / "cursor")
    with pytest.raises(InvalidInput, match="cursor file"):
        Cursor(tmp_path)


def test_a_write_that_fails_leaves_the_old_one(tmp_path: Path) -> None:
    """Where the new file cannot take the old one's place, that is an error and nothing is left over."""
    path = tmp_path / "cursor"
    cursor = Cursor(path)
    (path / "in the way").mkdir(parents=True)
    with pytest.raises(CannotWrite, match="cursor file"):
        cursor.move(Revision(1, 1))
    assert [each.name for each in tmp_path.iterdir()] == ["cursor"]
