"""The rules of ``coord doctor``: which states and settings of a server could lose events.

Pure: facts in, findings out. Each rule is a function, and `RULES` lists them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

__all__ = ["SETTINGS", "Facts", "Finding", "Level", "judge"]


class Level(StrEnum):
    """The severity of a finding."""

    OK = "ok"
    NOTE = "note"
    """Works as designed, but the user should know."""
    WARNING = "warning"
    UNKNOWN = "unknown"
    """The server does not report it."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check. ``fix`` is the setting to change, or another remedy."""

    check: str
    level: Level
    text: str
    fix: str | None = None


SETTINGS: Final = (
    "maxmemory-policy",
    "appendonly",
    "appendfsync",
    "save",
    "client-output-buffer-limit",
    "maxmemory-clients",
    "timeout",
    "min-replicas-to-write",
    "min-replicas-max-lag",
)


@dataclass(frozen=True, slots=True)
class Facts:
    """What the server reported.

    ``info`` is INFO, field by field. ``settings`` holds only those of `SETTINGS` that the server
    reported. ``clock_ahead`` is how many seconds its clock is ahead of ours.
    """

    info: Mapping[str, str]
    settings: Mapping[str, str]
    clock_ahead: float

    @property
    def program(self) -> tuple[str, str]:
        """The server's kind and version; other kinds also report the version of Redis that they emulate."""
        for kind in ("valkey", "dragonfly"):
            if version := self.info.get(f"{kind}_version"):
                return kind.capitalize(), version
        return "Redis", self.info.get("redis_version", "of unknown version")

    @property
    def role(self) -> str | None:
        """``primary`` or ``replica``."""
        return {"master": "primary", "slave": "replica"}.get(self.info.get("role", ""))

    def number(self, field: str) -> int:
        """Return a number of INFO; 0 if it is missing."""
        return _number(self.info.get(field)) or 0


def _number(text: str | None) -> int | None:
    """Return a number as Redis writes it; `None` for anything else, which another kind of server may report."""
    return int(text) if text is not None and text.isascii() and text.isdigit() else None


Rule = Callable[[Facts], Iterator[Finding]]

_OLDEST = (6, 2)
# Redis's own defaults, in bytes.
_HARD, _SOFT = 32 << 20, 8 << 20
_DEFAULT_BUFFER = 'client-output-buffer-limit "pubsub 32mb 8mb 60"'
# A link sends something every 5 seconds (its default heartbeat).
_IDLE = 30
# Synchronized clocks never differ by more seconds than this.
_CLOCK = 2.0
_FULL = 0.9
# Seconds: below the grace time of locks, less the time until another server is promoted.
_MAX_LAG = 5


def judge(facts: Facts) -> list[Finding]:
    """Return what every rule finds."""
    return [finding for rule in RULES for finding in rule(facts)]


def _version(facts: Facts) -> Iterator[Finding]:
    text = facts.info.get("redis_version", "")
    version = tuple(map(int, re.findall(r"\d+", text)[:2]))
    if not version:
        yield Finding(
            "version", Level.UNKNOWN, "the server does not report its version", "use Redis 6.2 or later, or Valkey"
        )
    elif version < _OLDEST:
        yield Finding("version", Level.WARNING, f"{text} is too old", "use Redis 6.2 or later, or Valkey")


def _role(facts: Facts) -> Iterator[Finding]:
    if facts.role == "replica":
        primary = f"{facts.info.get('master_host', '?')}:{facts.info.get('master_port', '?')}"
        yield Finding("role", Level.WARNING, "the server is a replica", f"use its primary, {primary}")


def _eviction(facts: Facts) -> Iterator[Finding]:
    policy = facts.settings.get("maxmemory-policy") or facts.info.get("maxmemory_policy")
    evicted = facts.number("evicted_keys")
    if policy is None:
        yield _unknown("eviction", "maxmemory-policy")
    elif policy == "noeviction":
        yield Finding("eviction", Level.OK, "maxmemory-policy noeviction")
    elif policy.startswith("volatile"):
        words = (
            f"maxmemory-policy {policy}: a server short of memory evicts keys with a TTL, and so whole maps if another"
            " program gives them one (coord does not)"
        )
        yield Finding("eviction", Level.WARNING, words, "maxmemory-policy noeviction")
    else:
        so_far = f" ({evicted} keys so far)" if evicted else ""
        words = f"maxmemory-policy {policy}: a server short of memory evicts whole maps{so_far}"
        yield Finding("eviction", Level.WARNING, words, "maxmemory-policy noeviction")


def _memory(facts: Facts) -> Iterator[Finding]:
    used, most = facts.number("used_memory"), facts.number("maxmemory")
    if most and used > _FULL * most:
        words = f"{used} of {most} bytes are in use: calls are refused when it is full"
        yield Finding("memory", Level.WARNING, words, "maxmemory (more of it, or 0)")
    clients, room = facts.number("connected_clients"), facts.number("maxclients")
    if room and clients > _FULL * room:
        words = f"{clients} of {room} connections are in use, and a node takes two"
        yield Finding("connections", Level.WARNING, words, "maxclients")


def _persistence(facts: Facts) -> Iterator[Finding]:
    append_only = facts.settings.get("appendonly") or {"1": "yes", "0": "no"}.get(facts.info.get("aof_enabled", ""))
    if append_only is None:
        yield _unknown("persistence", "appendonly")
    elif append_only == "yes":
        yield from _synced(facts.settings.get("appendfsync"))
    elif facts.settings.get("save") == "":
        words = "nothing is saved to disk: a restart of the server loses every event"
        yield Finding("persistence", Level.WARNING, words, "appendonly yes")
    else:
        points = facts.settings.get("save")
        kept = "only snapshots are saved" if points is None else f"snapshots only (save {points})"
        words = f"{kept}: a crash of the server loses every event since the last one"
        yield Finding("persistence", Level.WARNING, words, "appendonly yes")


def _synced(how: str | None) -> Iterator[Finding]:
    if how is None:
        yield _unknown("persistence", "appendfsync")
    elif how == "no":
        words = "appendfsync no: a crash of the machine loses the events of about half a minute"
        yield Finding("persistence", Level.WARNING, words, "appendfsync everysec (or always)")
    elif how == "everysec":
        words = "append-only file, synced every second: a crash may lose the last second (appendfsync always: none)"
        yield Finding("persistence", Level.NOTE, words)
    else:
        yield Finding("persistence", Level.OK, f"append-only file, appendfsync {how}")


def _disk(facts: Facts) -> Iterator[Finding]:
    jobs = {
        "aof_last_write_status": "write to the append-only file",
        "aof_last_bgrewrite_status": "rewrite of the append-only file",
        "rdb_last_bgsave_status": "snapshot",
    }
    for field, job in jobs.items():
        if facts.info.get(field, "ok") != "ok":
            yield Finding("disk", Level.WARNING, f"the server's last {job} failed", "look at its log and its disk")


def _buffer(facts: Facts) -> Iterator[Finding]:
    setting = "client-output-buffer-limit"
    limits = _limits(facts, "pubsub")
    if limits is None:
        yield _unknown("subscriber buffer", setting)
        return
    hard, soft, seconds = limits
    if 0 < hard < _HARD or 0 < soft < _SOFT:
        words = f"{setting} pubsub {hard} {soft} {seconds}: a node that is busy for a moment is disconnected"
        yield Finding("subscriber buffer", Level.WARNING, words, _DEFAULT_BUFFER)
    else:
        yield Finding("subscriber buffer", Level.OK, f"{setting} pubsub {hard} {soft} {seconds}")


def _limits(facts: Facts, kind: str) -> tuple[int, int, int] | None:
    found = re.search(rf"{kind} (\d+) (\d+) (\d+)", facts.settings.get("client-output-buffer-limit", ""))
    return None if found is None else (int(found[1]), int(found[2]), int(found[3]))


def _answers(facts: Facts) -> Iterator[Finding]:
    """Limits on reply sizes that disconnect a node: after it reconnects, it requests the same again."""
    limits = _limits(facts, "normal")
    if limits is None:
        yield _unknown("answers", "client-output-buffer-limit")
    elif any(limits[:2]):
        words = (
            "client-output-buffer-limit normal {} {} {}: a larger reply, as to a listing or to many waits at once,"
            " disconnects the node"
        )
        fix = 'client-output-buffer-limit "normal 0 0 0"'
        yield Finding("answers", Level.WARNING, words.format(*limits), fix)
    else:
        yield Finding("answers", Level.OK, "client-output-buffer-limit normal 0 0 0: of any size")
    # New in Redis 7: without the setting there is no limit.
    if (share := facts.settings.get("maxmemory-clients", "0")) != "0":
        words = f"maxmemory-clients {share}: the server disconnects clients with the largest replies, even nodes"
        yield Finding("clients' memory", Level.WARNING, words, "maxmemory-clients 0")


def _idle(facts: Facts) -> Iterator[Finding]:
    seconds = _number(facts.settings.get("timeout"))
    if seconds is None:
        yield _unknown("idle connections", "timeout")
    elif 0 < seconds < _IDLE:
        words = f"timeout {seconds}: the server disconnects a node that sends nothing for {seconds} s"
        yield Finding("idle connections", Level.WARNING, words, "timeout 0")
    else:
        words = "never closed" if seconds == 0 else f"closed after {seconds} s, and a node sends something every 5 s"
        yield Finding("idle connections", Level.OK, words)


def _replicas(facts: Facts) -> Iterator[Finding]:
    replicas = _number(facts.info.get("connected_slaves"))
    needed = _number(facts.settings.get("min-replicas-to-write"))
    if replicas is None or (needed is None and replicas):
        yield _unknown("replicas", "min-replicas-to-write" if needed is None else "connected_slaves")
    elif needed is None:
        pass
    elif needed > replicas:
        words = f"min-replicas-to-write {needed}, and {replicas} are connected: calls are refused"
        yield Finding("replicas", Level.WARNING, words, f"connect more replicas, or min-replicas-to-write {replicas}")
    elif replicas and not needed:
        words = (
            f"{replicas} connected: a failover may lose the newest events, except those fired with replicas=1;"
            " min-replicas-to-write 1 makes that rare"
        )
        yield Finding("replicas", Level.NOTE, words)
    else:
        yield Finding("replicas", Level.OK, f"{replicas} connected, min-replicas-to-write {needed}")


def _locks(facts: Facts) -> Iterator[Finding]:
    """Look whether a primary that is cut off goes on taking writes (L7)."""
    replicas = _number(facts.info.get("connected_slaves"))
    needed = _number(facts.settings.get("min-replicas-to-write"))
    lag = _number(facts.settings.get("min-replicas-max-lag"))
    if not replicas or needed is None:
        return
    if not needed or (lag is not None and lag > _MAX_LAG):
        why = "goes on taking writes" if not needed else f"takes writes for another {lag} s"
        words = f"a primary that is cut off {why}: two nodes may own a lock meanwhile"
        fix = f"min-replicas-to-write 1 and min-replicas-max-lag {_MAX_LAG}, with two replicas or more"
        yield Finding("locks", Level.WARNING, words, fix)
    else:
        yield Finding("locks", Level.OK, f"a primary that is cut off takes no writes after {lag or 10} s")


def _clock(facts: Facts) -> Iterator[Finding]:
    ahead = facts.clock_ahead
    if abs(ahead) > _CLOCK:
        where = "ahead of" if ahead > 0 else "behind"
        words = f"the server's is {abs(ahead):.1f} s {where} this machine's: the times of events are wrong"
        yield Finding("clock", Level.WARNING, words, "synchronize both clocks (NTP)")
    else:
        yield Finding("clock", Level.OK, f"{abs(ahead) * 1000:.0f} ms apart")


def _unknown(check: str, setting: str) -> Finding:
    fix = f"allow CONFIG GET, or check {setting} in the server's configuration (for a managed server, at the provider)"
    return Finding(check, Level.UNKNOWN, f"the server does not report {setting}", fix)


RULES: Final[tuple[Rule, ...]] = (
    _version,
    _role,
    _eviction,
    _memory,
    _persistence,
    _disk,
    _buffer,
    _answers,
    _idle,
    _replicas,
    _locks,
    _clock,
)
