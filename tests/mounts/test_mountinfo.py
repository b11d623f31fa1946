"""The mount table's text, and which mounts a path leads to."""

from __future__ import annotations

import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coord import InvalidInput
from coord.mounts.mountinfo import Mount, parse, visible
from coord.mounts.selection import Selection

SAMPLES = Path(__file__).parent / "samples"


def read(name: str) -> dict[bytes, Mount]:
    """Read a sample; answer what is visible."""
    mounts, broken = parse((SAMPLES / f"{name}.mountinfo").read_bytes())
    assert not broken
    return visible(mounts)


def announced(name: str) -> dict[str, tuple[str, str]]:
    """Answer what of a sample is announced: mount point to (source, type)."""
    return {
        target.decode(): (mount.source, mount.fstype) for target, mount in read(name).items() if mount in Selection()
    }


def line(number: int, parent: int, target: str, source: str = "none") -> bytes:
    """Write a line of mountinfo."""
    return f"{number} {parent} 0:{number} / {target} rw - tmpfs {source} rw\n".encode()


def seen(table: bytes) -> dict[str, int]:
    """Answer which mount is visible where."""
    return {target.decode(): mount.id for target, mount in visible(parse(table)[0]).items()}


def test_container_on_overlay() -> None:
    """In a container overlay, volumes and tmpfs are announced, and nothing of the kernel's."""
    disk = ("/dev/sda1", "ext4")
    assert announced("container-overlay") == {
        "/": ("overlay", "overlay"),
        "/dev": ("tmpfs", "tmpfs"),
        "/dev/shm": ("shm", "tmpfs"),
        "/data": disk,
        "/etc/resolv.conf": disk,
        "/etc/hostname": disk,
        "/etc/hosts": disk,
        "/proc/kcore": ("tmpfs", "tmpfs"),
        "/proc/acpi": ("tmpfs", "tmpfs"),
    }


def test_network_file_systems() -> None:
    """NFS and CIFS mounts keep their servers' names, IPv6 and spaces included."""
    found = announced("nfs")
    assert found["/srv/home"] == ("filer.example.org:/export/home", "nfs4")
    assert found["/srv/old"] == ("[2001:db8::4]:/vol/old", "nfs")
    assert found["/mnt/win share"] == ("//fs1/Team Files", "cifs")
    assert "/run/rpc_pipefs" not in found


def test_autofs() -> None:
    """What was mounted on a placeholder is announced; the placeholder itself is not."""
    assert announced("autofs") == {
        "/": ("/dev/sda2", "ext4"),
        "/net/filer": ("filer:/export", "nfs4"),
        "/data": ("filer:/data", "nfs4"),
    }


def test_overlay() -> None:
    """An overlay's options keep their escapes, and read-only wins over the super block's rw."""
    table = read("overlay")
    assert table[b"/srv/merged"].options == (
        "rw,relatime,lowerdir=/srv/lo\\0401:/srv/lo\\134:2,upperdir=/srv/up,workdir=/srv/work,uuid=on"
    )
    assert table[b"/srv/read only"].options == "ro,relatime,lowerdir=/srv/a:/srv/b"
    assert table[b"/snap/core22/1380"].options.startswith("ro,nodev,relatime,errors=continue")


def test_zfs() -> None:
    """Datasets in datasets are all seen, except where a parent was mounted after its child."""
    found = announced("zfs")
    assert found["/home/ann lee"] == ("rpool/home/ann lee", "zfs")
    assert found["/tank/media/.zfs/snapshot/daily"] == ("tank/media@daily", "zfs")
    # /tank/db was mounted on the root's directory, then /tank came over it.
    assert "/tank/db" not in found


def test_btrfs_subvolumes() -> None:
    """Subvolumes of one device are mounts of their own, told apart by their root."""
    table = read("btrfs-subvolumes")
    assert table[b"/"].root == b"/@"
    assert table[b"/home"].root == b"/@home"
    assert announced("btrfs-subvolumes")["/home"] == ("/dev/mapper/luks-root", "btrfs")
    assert "/sys/firmware/efi/efivars" not in announced("btrfs-subvolumes")


def test_bind_mounts() -> None:
    """A bind mount is a mount with a root; optional fields are kept, however many there are."""
    table = read("bind-mounts")
    assert (table[b"/var/www"].root, table[b"/var/www"].source) == (b"/srv/www", "/dev/sda2")
    assert table[b"/chroot/etc/motd"].propagation == ("shared:1", "master:4", "propagate_from:2")
    assert table[b"/mnt/gone"].root == b"/tmp/gone//deleted"
    assert table[b"/mnt/gone"].propagation == ("unbindable",)
    assert "/run/netns/blue" not in announced("bind-mounts")


def test_names_with_everything_in_them() -> None:
    """Octal escapes are decoded once, on bytes; an empty source and a dash are no separators."""
    table = read("names")
    assert table.keys() == {
        b"/t",
        b"/t/with space",
        "/t/tâb\tx".encode(),
        b"/t/back\\slash",
        b"/t/new\nline",
        b"/t/sha#rp",
        b"/t/looks\\040escaped",
        b"/t/empty-source",
        b"/t/- - -",
        b"/t/bad\xff",
    }
    assert table[b"/t/with space"].source == "s o#u"
    assert table[b"/t/empty-source"].source == ""
    assert (table[b"/t/- - -"].fstype, table[b"/t/- - -"].source) == ("fuse.my fs", "-")
    assert table[b"/t/bad\xff"].source == "s\\xff"


def test_over_mounts() -> None:
    """What is mounted over hides the mount below it, and all that was mounted in that one."""
    assert announced("over-mounts") == {
        "/t": ("none", "tmpfs"),
        "/t/a": ("top", "tmpfs"),
        "/t/b": ("over", "tmpfs"),
    }


def test_same_target_twice() -> None:
    """Of several mounts on one mount point, the one on top counts."""
    found = announced("same-target-twice")
    assert found["/dev/shm"] == ("second", "tmpfs")
    assert found["/mnt/abc"] == ("three", "tmpfs")


def test_slid_beneath() -> None:
    """The tree says what is on top, not the order of the lines (`mount --beneath`, propagation)."""
    assert announced("beneath")["/mnt/abc"] == ("on-top", "tmpfs")


def test_moved() -> None:
    """A moved mount takes its children along, in whatever order the lines come."""
    assert announced("moved").keys() == {"/t", "/t/moved", "/t/moved/kid"}


def test_chroot() -> None:
    """In a chroot the root's own mount is not listed; what hangs on it is seen all the same."""
    assert announced("chroot").keys() == {"/data", "/data/more"}


def test_sharing_a_prefix_is_not_being_above() -> None:
    """/mnt/a does not hide /mnt/ab."""
    table = line(1, 0, "/") + line(2, 1, "/mnt/ab") + line(3, 1, "/mnt/a")
    assert seen(table) == {"/": 1, "/mnt/ab": 2, "/mnt/a": 3}


def test_rootfs_below_the_root() -> None:
    """The boot file system that is its own parent is hidden by the root mounted over it."""
    table = b"1 1 0:1 / / rw - rootfs rootfs rw\n" + line(20, 1, "/") + line(21, 20, "/x")
    assert seen(table) == {"/": 20, "/x": 21}


def test_parents_in_a_circle() -> None:
    """A table that no kernel writes ends too."""
    assert seen(line(1, 2, "/a") + line(2, 1, "/b") + line(3, 9, "/")) == {"/": 3}


@pytest.mark.parametrize(
    "broken",
    [
        b"nonsense",
        b"36 35 98:0 / /mnt rw master:1 ext3 /dev/root rw",
        b"x 35 98:0 / /mnt rw - ext3 /dev/root rw",
        b"36 35 98:0 / mnt rw - ext3 /dev/root rw",
        b"36 35 98:0 / /mnt rw - ext3 /dev/root",
        b"36 35 98:0 / /mnt rw -  /dev/root rw",
        b"36 35 98:0 / /mnt - ext3 /dev/root rw",
        b"9" * 5000 + b" 35 98:0 / /mnt rw - ext3 /dev/root rw",
    ],
)
def test_a_broken_line_hurts_no_other(broken: bytes) -> None:
    """A line that cannot be read is handed back; the others are read."""
    mounts, rest = parse(line(1, 0, "/") + broken + b"\n" + line(2, 1, "/x"))
    assert [mount.id for mount in mounts] == [1, 2]
    assert rest == [broken]


pieces = st.sampled_from(
    [
        b" ",
        b" - ",
        b"\n",
        b"\\040",
        b"\\777",
        b"\\",
        b"/",
        b"/a",
        b"/a/b",
        b"1",
        b"2",
        b"rw",
        b"\xff",
    ]
)


@given(st.one_of(st.binary(max_size=300), st.lists(pieces, max_size=60).map(b"".join)))
def test_arbitrary_bytes_never_raise(table: bytes) -> None:
    """Every line that is not blank becomes a mount or a broken line, whatever the bytes."""
    mounts, broken = parse(table)
    assert len(mounts) + len(broken) == sum(bool(part.strip()) for part in table.split(b"\n"))
    visible(mounts)
    assert all(mount.options for mount in mounts)


def escaped(path: bytes) -> bytes:
    """Escape as the kernel does."""
    return b"".join(b"\\%03o" % byte if byte in b" \t\n\\" else bytes([byte]) for byte in path)


@given(st.binary(max_size=40).filter(lambda path: b"\0" not in path))
def test_every_path_survives_the_kernels_escaping(path: bytes) -> None:
    """What the kernel escapes comes back as it was."""
    text = b"1 0 0:1 / %s rw - tmpfs %s rw\n" % (escaped(b"/" + path), escaped(path))
    (mount,), broken = parse(text)
    assert not broken
    assert mount.target == b"/" + path


letters = st.text(string.ascii_lowercase[:3], min_size=1, max_size=1)
paths = st.lists(letters, max_size=3).map(lambda parts: "/" + "/".join(parts))


@given(st.lists(paths, max_size=12), st.randoms(use_true_random=False))
def test_mounting_shows_the_newest(targets: list[str], shuffle: object) -> None:
    """Each mount hides what was at or below its mount point, in any order of lines."""
    alive: dict[str, int] = {"/": 1}
    lines = [line(1, 0, "/")]
    for number, target in enumerate(targets, start=2):
        above = [spot for spot in alive if f"{target}/".startswith(f"{spot.rstrip('/')}/")]
        lines.append(line(number, alive[max(above, key=len)], target))
        below = f"{target.rstrip('/')}/"
        alive = {spot: at for spot, at in alive.items() if not f"{spot}/".startswith(below)}
        alive[target] = number
    shuffle.shuffle(lines)  # type: ignore[attr-defined]
    assert seen(b"".join(lines)) == alive


CHOICES: list[tuple[str, dict[str, list[str]], set[str]]] = [
    # With `only`, kernel file systems are announced too, placeholders never: nothing is mounted there yet.
    ("autofs", {"only": ["/proc*", "/idl?"]}, {"/proc", "/proc/sys/fs/binfmt_misc"}),
    ("autofs", {"only": ["*"], "exclude": ["/proc", "/net/*"]}, {"/", "/proc/sys/fs/binfmt_misc", "/data"}),
    ("autofs", {"types": ["autofs"]}, {"/net", "/idle"}),
    ("autofs", {"types": ["auto*", "proc"]}, {"/net", "/idle", "/proc"}),
    ("autofs", {"only": ["/idle", "/data"], "types": ["autofs"]}, {"/idle"}),
    ("autofs", {"only": ["/idle"], "types": ["autofs"], "exclude": ["/i*"]}, set()),
    ("autofs", {"types": ["autofs", "nfs4"], "exclude_types": ["autofs"]}, {"/net/filer", "/data"}),
    ("autofs", {"exclude_types": ["nfs*"]}, {"/"}),
    ("autofs", {"exclude": ["/net/*", "/"]}, {"/data"}),
    ("container-overlay", {"exclude_types": ["tmpfs", "ext4"]}, {"/"}),
    ("container-overlay", {"types": ["overlay", "ext4"], "exclude": ["/etc/*"]}, {"/", "/data"}),
    ("container-overlay", {"types": ["ext"]}, set()),
    ("container-overlay", {"types": ["Overlay"]}, set()),
]


@pytest.mark.parametrize(("name", "patterns", "expected"), CHOICES)
def test_selection(name: str, patterns: dict[str, list[str]], expected: set[str]) -> None:
    """Mount points and types choose together, leaving out wins, and a placeholder is chosen by type alone."""
    selection = Selection(**patterns)
    assert {target.decode() for target, mount in read(name).items() if mount in selection} == expected


@pytest.mark.parametrize("field", ["only", "exclude"])
@pytest.mark.parametrize("pattern", ["", "mnt/*", "./mnt", "~/x", "/mnt/", "*/", "//mnt", "/mnt/./a", "/mnt/.."])
def test_patterns_that_match_no_mount_point(field: str, pattern: str) -> None:
    """A pattern that can match nothing is refused: it would be waited on for ever."""
    with pytest.raises(InvalidInput, match="matches no mount point"):
        Selection(**{field: ["/", pattern]})


@pytest.mark.parametrize(
    "pattern", ["/", "*", "/mnt/.hidden", "/mnt/..data", "[!x]*", "?mnt", "/a*", "/mnt/...", "**/b"]
)
def test_patterns_that_may_match(pattern: str) -> None:
    """Dots within a name and brackets in front are no mistakes."""
    Selection([pattern], exclude=[pattern])


@pytest.mark.parametrize("field", ["only", "exclude", "types", "exclude_types"])
def test_one_pattern_is_no_list(field: str) -> None:
    """A lone string is refused, not taken for the list of its characters; an empty type too."""
    with pytest.raises(InvalidInput, match="a list"):
        Selection(**{field: "/mnt/*"})
    if "types" in field:
        with pytest.raises(InvalidInput, match="empty"):
            Selection(**{field: ["ext4", ""]})


def test_only_means_the_whole_mount_point() -> None:
    """A pattern matches all of the mount point, with * across slashes; bytes outside UTF-8 too."""
    table = read("names")
    assert [t for t, mount in table.items() if mount in Selection(["/t/w"])] == []
    assert [t for t, mount in table.items() if mount in Selection(["*bad\udcff"])] == [b"/t/bad\xff"]
    assert len([t for t, mount in table.items() if mount in Selection(["/t/*"])]) == len(table) - 1
