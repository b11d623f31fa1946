"""What is to be done so that the cluster hears what is mounted."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from coord.core.records import Kind, Record, Revision
from coord.core.values import Json
from coord.mounts.announcements import Facts, Fire, Reset, Step, is_own, plan, withdraw
from coord.mounts.mountinfo import parse, visible
from coord.mounts.selection import Selection

ALL = Selection()


def facts(node: str, *lines: str, selection: Selection = ALL) -> Facts:
    """Read the facts off mountinfo lines from the mount point on."""
    table = "".join(f"{n} 0 0:1 / {line}\n" for n, line in enumerate(lines, start=1))
    return Facts.of(node, visible(parse(table.encode())[0]), selection)


def value(node: str, target: str, source: str = "none", fstype: str = "tmpfs") -> dict[str, Json]:
    """Make an announcement's value."""
    return {"node": node, "source": source, "target": target, "fstype": fstype, "options": "rw"}


def record(key: str, value: Json, kind: Kind = Kind.FIRED, number: int = 1) -> Record:
    """Make a record."""
    return Record("mount", key, kind, value, Revision(1, number), 0.0, "anybody")


def standing(*records: Record) -> dict[str, Record]:
    """Key the records."""
    return {record.key: record for record in records}


ABC = "/mnt/abc rw - tmpfs none rw"


def test_two_keys_for_each_mount() -> None:
    """Each mount fires its mount point and NODE:MOUNTPOINT, both with the same value."""
    expected: dict[str, Json] = {
        "node": "n1",
        "source": "/dev/sdb1",
        "target": "/mnt/my disk",
        "fstype": "ext4",
        "options": "rw,noatime,errors=continue",
    }
    assert plan(facts("n1", r"/mnt/my\040disk rw,noatime - ext4 /dev/sdb1 rw,errors=continue"), {}) == [
        Fire("/mnt/my disk", expected),
        Fire("n1:/mnt/my disk", expected),
    ]


def test_nothing_to_do() -> None:
    """If both records are true, nothing is done."""
    stands = standing(record("/mnt/abc", value("n1", "/mnt/abc")), record("n1:/mnt/abc", value("n1", "/mnt/abc")))
    assert plan(facts("n1", ABC), stands) == []


def test_remounted() -> None:
    """Changed options are announced as another file system would be: options are facts too."""
    stands = standing(record("/mnt/abc", value("n1", "/mnt/abc")), record("n1:/mnt/abc", value("n1", "/mnt/abc")))
    for changed in (
        "/mnt/abc ro - tmpfs none rw",
        "/mnt/abc rw - tmpfs none ro",
        "/mnt/abc rw - tmpfs none rw,size=1k",
    ):
        now = facts("n1", changed)
        steps = plan(now, stands)
        assert [type(step) for step in steps] == [Reset, Reset, Fire, Fire]
        assert steps[2:] == [Fire(key, now.wanted[key]) for key in ("/mnt/abc", "n1:/mnt/abc")]


def test_remounted_where_another_node_announced() -> None:
    """Options that differ from those of another node's shared record change only the own key."""
    stands = standing(record("/mnt/abc", value("n2", "/mnt/abc")), record("n1:/mnt/abc", value("n1", "/mnt/abc")))
    steps = plan(facts("n1", "/mnt/abc ro - tmpfs none rw"), stands)
    assert [step.key for step in steps] == ["n1:/mnt/abc"] * 2


def test_unmounted() -> None:
    """What is mounted no more is reset by the revision that this node knows."""
    stands = standing(
        record("/mnt/abc", value("n1", "/mnt/abc"), number=7),
        record("n1:/mnt/abc", value("n1", "/mnt/abc"), number=8),
    )
    assert set(plan(facts("n1"), stands)) == {
        Reset("/mnt/abc", Revision(1, 7)),
        Reset("n1:/mnt/abc", Revision(1, 8)),
    }


def test_resets_and_fires_follow_umount_and_mount() -> None:
    """Resets come innermost first, as umount works; fires outermost first, as mount does."""
    targets = ("/a", "/a/b", "/a/b/c")
    stands = standing(*(record(key, value("n1", target)) for target in targets for key in (target, f"n1:{target}")))
    order = [step.key for step in plan(facts("n1"), stands)]
    assert [key for key in order if key.startswith("/")] == ["/a/b/c", "/a/b", "/a"]
    assert [key for key in order if key.startswith("n1:")] == ["n1:/a/b/c", "n1:/a/b", "n1:/a"]
    nested = b"3 2 0:1 / /a/b/c rw - tmpfs x rw\n2 1 0:1 / /a/b rw - tmpfs x rw\n1 0 0:1 / /a rw - tmpfs x rw\n"
    mounted = Facts.of("n1", visible(parse(nested)[0]), ALL)
    assert [step.key for step in plan(mounted, {}) if step.key.startswith("/")] == list(targets)


def test_another_file_system_in_its_place() -> None:
    """Another source or type on a mount point replaces the record: first reset, then fire."""
    stands = standing(record("/mnt/abc", value("n1", "/mnt/abc")), record("n1:/mnt/abc", value("n1", "/mnt/abc")))
    steps = plan(facts("n1", "/mnt/abc rw - ext4 /dev/sdb1 rw"), stands)
    assert [type(step) for step in steps] == [Reset, Reset, Fire, Fire]


def test_shared_key_of_another_node() -> None:
    """A shared key that another node fired is left alone, mounted here or not."""
    stands = standing(record("/mnt/abc", value("n2", "/mnt/abc")))
    assert [step.key for step in plan(facts("n1", ABC), stands)] == ["n1:/mnt/abc"]
    assert plan(facts("n1"), stands) == []


def test_shared_key_reset_by_another_node() -> None:
    """A shared key that was reset while it is mounted here is fired again."""
    stands = standing(record("/mnt/abc", None, Kind.RESET), record("n1:/mnt/abc", value("n1", "/mnt/abc")))
    assert [step.key for step in plan(facts("n1", ABC), stands)] == ["/mnt/abc"]


def test_what_users_fire_is_theirs() -> None:
    """Events of another shape are never reset, even if this node's name fired them."""
    for mine in (True, "n1", {"node": "n1"}, {"node": "n1", "target": "/x"}, value("n1", "/x")):
        assert not is_own("n1", record("/mnt/abc", mine))  # type: ignore[arg-type]
    assert not is_own("n1", record("/mnt/abc", value("n1", "/mnt/abc"), Kind.FAILED))
    assert not is_own("n1", record("/mnt/abc", value("n2", "/mnt/abc")))
    assert is_own("n1", record("/mnt/abc", value("n1", "/mnt/abc")))
    assert is_own("n1", record("n1:/mnt/abc", value("n1", "/mnt/abc")))


def test_own_records_with_parts_missing() -> None:
    """A record of ours that lacks a field is not what is mounted, and is replaced."""
    stands = standing(record("/mnt/abc", {"node": "n1", "target": "/mnt/abc"}))
    assert Reset("/mnt/abc", Revision(1, 1)) in plan(facts("n1", ABC), stands)


def test_two_agents_with_other_patterns_do_not_fight() -> None:
    """What another agent of this host announced stays, as long as it is mounted."""
    stands = standing(record("/mnt/abc", value("n1", "/mnt/abc")))
    assert plan(facts("n1", ABC, selection=Selection(["/data/*"])), stands) == []


def test_placeholders() -> None:
    """An automount point that this or an earlier version announced is withdrawn, unless it is asked for by type."""
    idle = "/idle rw - autofs systemd-1 rw"
    stands = standing(record("n1:/idle", value("n1", "/idle", "systemd-1", "autofs")))
    assert plan(facts("n1", idle), stands) == [Reset("n1:/idle", Revision(1, 1))]
    assert plan(facts("n1", idle, selection=Selection(["/idle"])), stands) == [Reset("n1:/idle", Revision(1, 1))]
    asked = plan(facts("n1", idle, selection=Selection(types=["autofs"])), stands)
    assert [step.key for step in asked] == ["/idle"]


def test_disk_over_its_placeholder() -> None:
    """A disk on an automount point is announced when it is mounted, and withdrawn when it expires."""
    placeholder, disk = "1 0 0:1 / /data rw - autofs systemd-1 rw\n", "2 1 0:2 / /data rw - nfs4 filer:/data rw\n"
    selection = Selection(["/data"])
    mounted = Facts.of("n1", visible(parse((placeholder + disk).encode())[0]), selection)
    stands: dict[str, Record] = {}
    carry_out(plan(mounted, stands), stands, "n1")
    assert {key: stands[key].value for key in stands} == dict(mounted.wanted)
    assert mounted.wanted["/data"]["fstype"] == "nfs4"
    expired = Facts.of("n1", visible(parse(placeholder.encode())[0]), selection)
    carry_out(plan(expired, stands), stands, "n1")
    assert not any(record.latched for record in stands.values())


def test_mount_points_that_cannot_be_keys() -> None:
    """What is not UTF-8, too long with the node's name, or has control characters is left out."""
    long = "/" + "x" * 509
    found = facts("n1", f"{long} rw - tmpfs a rw", r"/a\012b rw - tmpfs a rw")
    assert found.wanted == {}
    assert found.unannounceable.keys() == {long.encode(), b"/a\nb"}
    raw = b"1 0 0:1 / /bad\xff rw - tmpfs a rw\n2 0 0:1 / /proc\xff rw - proc a rw\n"
    assert Facts.of("n1", visible(parse(raw)[0]), ALL).unannounceable == {b"/bad\xff": "it is not UTF-8"}
    assert f"n1:{long[:-1]}" in facts("n1", f"{long[:-1]} rw - tmpfs a rw").wanted


def test_withdraw() -> None:
    """A stop with reset takes back all of this node's announcements and nothing else."""
    stands = standing(
        record("/a", value("n1", "/a"), number=1),
        record("n1:/a", value("n1", "/a"), number=2),
        record("/b", value("n2", "/b"), number=3),
        record("ready", "n1", number=4),
    )
    assert {step.key for step in withdraw("n1", stands)} == {"/a", "n1:/a"}


NODES = ("n1", "n2", "n3")
TARGETS = ("/a", "/a/b", "/c")
mounts = st.dictionaries(st.sampled_from(TARGETS), st.sampled_from(["x", "y"]))
junk: st.SearchStrategy[Json] = st.sampled_from([True, "x", {"node": "n1"}, {"target": "/a"}])
anybodys = st.builds(
    record,
    st.sampled_from([*TARGETS, *(f"{node}:{target}" for node in NODES for target in TARGETS)]),
    st.one_of(
        junk,
        st.builds(value, st.sampled_from(NODES), st.sampled_from(TARGETS), st.sampled_from("xy")),
    ),
    st.sampled_from(Kind),
    st.integers(1, 9),
)


def table(node: str, mounted: dict[str, str]) -> Facts:
    """Make the facts of a node with these mount points and sources."""
    return facts(node, *(f"{target} rw - tmpfs {source} rw" for target, source in mounted.items()))


def carry_out(steps: list[Step], stands: dict[str, Record], node: str) -> None:
    """Do what the server does with these calls."""
    for step in steps:
        known = stands.get(step.key)
        latched = known is not None and known.latched
        number = 1 + max((r.revision.number for r in stands.values()), default=0)
        if isinstance(step, Fire) and not latched:
            stands[step.key] = record(step.key, step.value, number=number)
        elif isinstance(step, Reset) and known is not None and known.revision == step.revision:
            stands[step.key] = record(step.key, None, Kind.RESET, number)


@given(mounts, st.lists(anybodys, max_size=10))
def test_one_round_settles_it(mounted: dict[str, str], records: list[Record]) -> None:
    """From whatever stands, one round leads to nothing to do, and changes nobody else's records."""
    stands = standing(*records)
    before = dict(stands)
    here = table("n1", mounted)
    carry_out(plan(here, stands), stands, "n1")
    assert plan(here, stands) == []
    assert all(stands[key].latched for key in here.wanted)
    for key, old in before.items():
        if old.latched and not is_own("n1", old):
            assert stands[key] == old
    for now in stands.values():
        assert not is_own("n1", now) or here.matches(now)


@given(
    st.lists(st.tuples(st.sampled_from(NODES), mounts), max_size=8),
    st.lists(anybodys, max_size=5),
    st.data(),
)
def test_nodes_settle_together(
    tables: list[tuple[str, dict[str, str]]], records: list[Record], data: st.DataObject
) -> None:
    """Nodes that act on old news, in any order, come to rest, and then every mount is announced."""
    stands = standing(*records)
    news = {node: dict(stands) for node in NODES}
    here = {node: table(node, {}) for node in NODES}
    for node, mounted in tables:
        here[node] = table(node, mounted)
        acting = data.draw(st.sampled_from(NODES))
        if data.draw(st.booleans()):
            news[acting] = dict(stands)
        carry_out(plan(here[acting], news[acting]), stands, acting)
    for _ in range(3):
        for node in NODES:
            carry_out(plan(here[node], stands), stands, node)
    for node in NODES:
        assert plan(here[node], stands) == []
        assert all(stands[key].latched for key in here[node].wanted)
