"""What is announced, and which calls that takes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from coord.core.values import Json
from coord.mounts.announcements import Facts, Value, plan
from coord.mounts.mountinfo import parse, visible
from coord.mounts.selection import Selection

ALL = Selection()


def facts(node: str, *lines: str, selection: Selection = ALL) -> Facts:
    """Read the facts off mountinfo lines from the mount point on."""
    table = "".join(f"{n} 0 0:1 / {line}\n" for n, line in enumerate(lines, start=1))
    return Facts.of(node, visible(parse(table.encode())[0]), selection)


ABC = "/mnt/abc rw - tmpfs none rw"


def test_two_keys_for_each_mount() -> None:
    """Each mount is announced as its mount point and NODE:MOUNTPOINT, both with the same value."""
    expected: dict[str, Json] = {
        "node": "n1",
        "source": "/dev/sdb1",
        "target": "/mnt/my disk",
        "fstype": "ext4",
        "options": "rw,noatime,errors=continue",
    }
    found = facts("n1", r"/mnt/my\040disk rw,noatime - ext4 /dev/sdb1 rw,errors=continue")
    assert found.wanted == {"/mnt/my disk": expected, "n1:/mnt/my disk": expected}
    assert plan(found.wanted, {}) == ([], ["/mnt/my disk", "n1:/mnt/my disk"])


def test_nothing_to_do() -> None:
    """What is held with the right value is left alone."""
    wanted = facts("n1", ABC).wanted
    assert plan(wanted, dict(wanted)) == ([], [])
    assert plan({}, {}) == ([], [])


def test_changed() -> None:
    """Other options, another source or type: both keys are held anew, and none is withdrawn."""
    held = facts("n1", ABC).wanted
    for changed in (
        "/mnt/abc ro - tmpfs none rw",
        "/mnt/abc rw - tmpfs none ro",
        "/mnt/abc rw - tmpfs none rw,size=1k",
        "/mnt/abc rw - ext4 /dev/sdb1 rw",
    ):
        assert plan(facts("n1", changed).wanted, held) == ([], ["/mnt/abc", "n1:/mnt/abc"])


def test_the_order_is_that_of_umount_and_mount() -> None:
    """Innermost mounts are withdrawn first, outermost ones held first."""
    nested = b"3 2 0:1 / /a/b/c rw - tmpfs x rw\n2 1 0:1 / /a/b rw - tmpfs x rw\n1 0 0:1 / /a rw - tmpfs x rw\n"
    wanted = Facts.of("n1", visible(parse(nested)[0]), ALL).wanted
    over, _ = plan({}, wanted)
    _, new = plan(wanted, {})
    targets = ["/a", "/a/b", "/a/b/c"]
    for prefix in ("", "n1:"):
        keys = [prefix + target for target in targets]
        assert [key for key in new if key in keys] == keys
        assert [key for key in over if key in keys] == keys[::-1]


def test_placeholders() -> None:
    """An automount point is announced only if it is asked for by type."""
    idle = "/idle rw - autofs systemd-1 rw"
    assert facts("n1", idle).wanted == {}
    assert facts("n1", idle, selection=Selection(["/idle"])).wanted == {}
    assert "/idle" in facts("n1", idle, selection=Selection(types=["autofs"])).wanted


def test_a_disk_over_its_placeholder() -> None:
    """A disk on an automount point is what is announced there."""
    placeholder, disk = b"1 0 0:1 / /data rw - autofs systemd-1 rw\n", b"2 1 0:2 / /data rw - nfs4 filer:/data rw\n"
    wanted = Facts.of("n1", visible(parse(placeholder + disk)[0]), Selection(["/data"])).wanted
    assert wanted["/data"]["fstype"] == "nfs4"


def test_mount_points_that_cannot_be_keys() -> None:
    """What is not UTF-8, too long with the node's name, or has control characters is left out."""
    long = "/" + "x" * 509
    found = facts("n1", f"{long} rw - tmpfs a rw", r"/a\012b rw - tmpfs a rw")
    assert found.wanted == {}
    assert found.unannounceable.keys() == {long.encode(), b"/a\nb"}
    raw = b"1 0 0:1 / /bad\xff rw - tmpfs a rw\n2 0 0:1 / /proc\xff rw - proc a rw\n"
    assert Facts.of("n1", visible(parse(raw)[0]), ALL).unannounceable == {b"/bad\xff": "it is not UTF-8"}
    assert f"n1:{long[:-1]}" in facts("n1", f"{long[:-1]} rw - tmpfs a rw").wanted


announcements = st.dictionaries(
    st.sampled_from(["/a", "/a/b", "/c", "n1:/a", "n1:/a/b", "n1:/c"]),
    st.sampled_from([{"source": "x"}, {"source": "y"}]),
)


@given(announcements, announcements)
def test_a_plan_settles_it(wanted: dict[str, Value], held: dict[str, Value]) -> None:
    """Whatever was held, what is wanted is held afterwards, and no key is both withdrawn and held."""
    over, new = plan(wanted, held)
    assert not set(over) & set(new)
    after = {key: value for key, value in held.items() if key not in over} | {key: wanted[key] for key in new}
    assert after == wanted
    assert all(held.get(key) != wanted[key] for key in new)
