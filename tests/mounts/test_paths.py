"""How a mount table writes a path."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from coord.mounts.mountinfo import Mount, parse, visible
from coord.mounts.paths import announced_as, resolve


def table(*lines: str) -> dict[bytes, Mount]:
    """Return the mounts of a table; each line is the mount point, the device, and the type."""
    text = "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n"
    for number, line in enumerate(lines, 2):
        target, device, fstype = line.split()
        text += f"{number} 1 {device} / {target} rw - {fstype} none rw\n"
    return visible(parse(text.encode())[0])


@pytest.mark.parametrize(
    ("key", "announced"),
    [
        ("/mnt/a/", "/mnt/a"),
        ("//mnt//a", "/mnt/a"),
        ("/mnt/./a/.", "/mnt/a"),
        ("/mnt/b/../a", "/mnt/a"),
        ("/..", "/"),
        ("n2:/mnt/a/", "n2:/mnt/a"),
        ("n1:/mnt/a///", "n1:/mnt/a"),
    ],
)
def test_paths_of_another_form(key: str, announced: str) -> None:
    """What the kernel never writes is named with what it does."""
    assert announced_as(["ready", key], "n1") == {key: announced}


@pytest.mark.parametrize(
    "key", ["/", "/no such/a", "n1:/no such", "ready/", "a/b/", "n1:", "n1:a/", "/no such/.a", "/no such/a b"]
)
def test_paths_as_the_kernel_writes_them(key: str) -> None:
    """A path without a link, and a key that is no path, is left alone."""
    assert announced_as([key], "n1") == {}


@pytest.fixture
def links(tmp_path: Path) -> Path:
    """Return a folder with links in it, without links above it."""
    folder = Path(os.path.realpath(tmp_path))
    (folder / "real" / "disk").mkdir(parents=True)
    (folder / "absolute").symlink_to(folder / "real")
    (folder / "relative").symlink_to("absolute/../real/disk")
    (folder / "dangling").symlink_to("not there")
    (folder / "circle").symlink_to("circle")
    return folder


def test_links(links: Path) -> None:
    """Links are followed wherever they are in the path, as long as there is something to follow."""
    disk = str(links / "real" / "disk")
    assert resolve(f"{links}/absolute/disk/") == disk
    assert resolve(f"{links}/relative") == disk
    assert resolve(f"{links}/relative/../disk") == disk
    assert resolve(f"{links}/dangling/x") == f"{links}/not there/x"
    assert resolve(f"{links}/circle/x").endswith("/circle/x")
    assert announced_as([f"{links}/relative", f"n1:{links}/relative", f"n2:{links}/relative"], "n1") == {
        f"{links}/relative": disk,
        f"n1:{links}/relative": f"n1:{disk}",
    }


@pytest.mark.parametrize("device", ["0:50 nfs4", "0:51 fuse.sshfs", "0:52 autofs"])
def test_links_that_are_not_looked_at(links: Path, device: str) -> None:
    """Nothing is read below a mount of a network file system, nor at its mount point: that may hang."""
    path = f"{links}/absolute/disk"
    assert resolve(path, table(f"{links} {device}")) == path
    assert resolve(path, table(f"{links}/absolute {device}")) == path


@pytest.mark.parametrize("device", ["8:17 ext4", "0:60 tmpfs", "0:61 btrfs"])
def test_links_on_local_file_systems(links: Path, device: str) -> None:
    """Links on disks and in memory are followed."""
    assert resolve(f"{links}/absolute/disk", table(f"{links} {device}")) == f"{links}/real/disk"
    beside = table(f"{links}/re 0:50 nfs4", f"{links}/absolute/x 0:50 nfs4")
    assert resolve(f"{links}/absolute/disk", beside) == f"{links}/real/disk"
