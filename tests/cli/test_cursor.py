"""The file in which `on` remembers how far it has come."""

from __future__ import annotations

import os
import stat
from itertools import repeat
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
    with pytest.raises(InvalidInput, match=r"cursor file .*/cursor: .* remove it to start over"):
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


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664])
def test_it_keeps_its_mode(tmp_path: Path, mode: int) -> None:
    """Who may read the file is not changed by moving it."""
    path = tmp_path / "cursor"
    path.write_text("1.1\n")
    path.chmod(mode)
    Cursor(path).move(Revision(1, 2))
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_a_new_one_has_the_mode_of_any_new_file(tmp_path: Path) -> None:
    """The user's umask decides, and goes on to."""
    before = os.umask(0o027)
    try:
        Cursor(tmp_path / "cursor").move(Revision(1, 2))
        assert stat.S_IMODE((tmp_path / "cursor").stat().st_mode) == 0o640
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)


@pytest.mark.parametrize("plant", [lambda at, to: at.symlink_to(to), lambda at, to: at.hardlink_to(to)])
def test_what_was_planted_where_it_writes_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plant: object
) -> None:
    """A link, or a file, under the name of the file that is written first is neither followed nor written to."""
    import tempfile

    victim, path = tmp_path / "victim", tmp_path / "spool" / "cursor"
    victim.write_text("precious\n")
    path.parent.mkdir()
    old_name = path.with_name(f".cursor.{os.getpid()}")
    guessed = path.with_name(".coord-cursor-guessed")
    for name in (old_name, guessed):
        plant(name, victim)  # type: ignore[operator]
    cursor = Cursor(path)
    cursor.move(Revision(1, 2))
    # As if the name had been guessed, the first time.
    monkeypatch.setattr(tempfile, "_get_candidate_names", lambda: iter(["guessed", "another"]))
    cursor.move(Revision(1, 3))
    assert path.read_text() == "1.3\n"
    monkeypatch.setattr(tempfile, "_get_candidate_names", lambda: repeat("guessed"))
    with pytest.raises(CannotWrite, match="cursor file"):
        cursor.move(Revision(1, 4))
    assert (path.read_text(), victim.read_text()) == ("1.3\n", "precious\n")
    assert guessed.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make another user's link")
def test_another_users_link_is_not_followed(tmp_path: Path) -> None:
    """A link in the cursor's place that is not ours is refused by name: it may lead anywhere."""
    link = tmp_path / "cursor"
    link.symlink_to(tmp_path / "victim")
    os.lchown(link, 12345, 12345)
    with pytest.raises(InvalidInput, match=r"cursor file .* the link belongs to another user"):
        Cursor(link)
    assert not (tmp_path / "victim").exists()


def test_a_pipe_does_not_hold_it_up(tmp_path: Path) -> None:
    """What is no regular file is refused at once, also a pipe that nobody writes to."""
    os.mkfifo(tmp_path / "cursor")
    with pytest.raises(InvalidInput, match="not a regular file"):
        Cursor(tmp_path / "cursor")
