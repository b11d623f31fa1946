"""The figures of docs/performance.md: between its markers stands what the files in benchmarks/results say.

A line ``<!-- figures: NAME -->`` begins a block of that name and ``<!-- end -->`` ends it. Run by plot.py.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import report

__all__ = ["BLOCKS", "fill", "source"]

COMMANDS = {
    "compare": "python benchmarks/compare.py --rounds 5 --json benchmarks/results/compare.json",
    "doors": "python benchmarks/doors.py --rounds 5 --json benchmarks/results/doors.json",
    "scale": "python benchmarks/scale.py --rounds 5 --json benchmarks/results/scale.json",
    "memory": "python benchmarks/memory.py --rounds 3 --json benchmarks/results/memory.json",
    "locks": "python benchmarks/locks.py --rounds 5 --json benchmarks/results/locks.json",
    "holds": "python benchmarks/holds.py --rounds 5 --json benchmarks/results/holds.json",
    "web": "python benchmarks/web.py --rounds 5 --json benchmarks/results/web.json",
    "streams": "python benchmarks/streams.py --rounds 1 --json benchmarks/results/streams.json",
}


@dataclass(frozen=True)
class Table:
    """What its subjects are, and the figure of each column; with ``versus`` coord is compared with each subject."""

    subjects: str
    columns: dict[str, str]
    versus: bool = False


@dataclass(frozen=True)
class Block:
    """What stands between two markers: a picture of the same name, if it has a text for it, and a table."""

    report: str
    table: Table
    picture: str = ""


def _beside(figure: str, peer: str) -> dict[str, str]:
    """Return the columns of a figure that a peer has, too."""
    return {who: f"{figure}: {who}" for who in ("coord", peer, f"coord / {peer}")}


def _two(way: str, figure: str) -> dict[str, str]:
    """Return the columns of a figure for coord and for a bare Deferred."""
    return {f"{way}: {who}": f"{figure}: {who}" for who in ("coord", "bare")}


BLOCKS = {
    "woken": Block(
        "compare",
        Table(
            "peer",
            {"keys woken a second": "keys woken a second", "waits armed a second": "waits armed a second"},
            versus=True,
        ),
        "Bars: keys woken a second, by peer",
    ),
    "latency": Block(
        "compare",
        Table("peer", {"median, us": "median latency, us", "p99, us": "p99 latency, us"}, versus=True),
        "Median and 99th percentile of the time from a fire to the waiter's handler, by peer",
    ),
    "late": Block(
        "compare",
        Table(
            "peer",
            {"first, us": "late wait, cold, us", "again, us": "late wait, cached (redis-py: GET), us"},
            versus=True,
        ),
    ),
    "doors": Block(
        "doors",
        Table(
            "caller",
            {
                "a lone fire, us": "us, a lone fire",
                "fires a second, in one go": "fires a second, in one go",
                "from eight threads": "fires a second, eight threads",
            },
        ),
    ),
    "locks": Block(
        "locks",
        Table(
            "peer",
            {"alone, locks a second": "locks a second, alone", "handed on a second": "locks handed on a second"},
            versus=True,
        ),
    ),
    "counts": Block(
        "locks",
        Table(
            "peer",
            {"alone, counts a second": "counts a second, alone", "eight": "counts a second, eight on one"},
            versus=True,
        ),
    ),
    "deaths": Block("locks", Table("peer", {"ms": "ms from kill -9 to all knowing"}, versus=True)),
    "holders": Block(
        "holds",
        Table(
            "call",
            {
                "Redis, us": "us on redis",
                "in lone fires": "fires on redis",
                "Valkey, us": "us on valkey",
                "in its lone fires": "fires on valkey",
            },
        ),
    ),
    "holders-size": Block(
        "holds",
        Table(
            "server",
            {"bytes a holder": "bytes a holder", "% of a core": "% of a core, 10,000 nodes"},
        ),
    ),
    "web": Block(
        "web", Table("request", {"a second": "requests/s", "us of processor time each": "us of CPU a request"})
    ),
    "streams": Block(
        "streams",
        Table(
            "gateway",
            {
                "KB a stream": "KB a stream",
                "% of a core, idle": "% of a core, idle",
                "one change to all: s of processor time": "s of CPU, one change to all",
                "s by the clock": "s, one change to all",
            },
        ),
    ),
    "bytes": Block(
        "memory",
        Table(
            "how many",
            {
                **_two("a waiter", "resident bytes a waiter"),
                "a cached key: coord": "resident bytes a cached key: coord",
            },
        ),
        "Bytes a waiter and a cached key, against their number",
    ),
    "times": Block(
        "memory",
        Table(
            "how many",
            {
                **_two("make", "us to make a wait"),
                **_two("cancel", "us to cancel a wait"),
                "arm": "us to arm a wait: coord",
                "cached wait": "us to wait for a cached key: coord",
            },
        ),
    ),
    "rearm": Block(
        "memory",
        Table(
            "waiters",
            {
                "s from the cut until all are armed": "s to re-arm all after a cut: coord",
                "ms, the reactor's longest pause": "ms of the reactor's longest pause meanwhile: coord",
            },
        ),
    ),
    "fan-out": Block(
        "scale",
        Table("nodes", _beside("fan-out, us to the last of N nodes", "redis-py")),
        "Microseconds from a fire to the last of 1, 10 and 50 waiting nodes",
    ),
    "firers": Block(
        "scale", Table("firing processes", _beside("keys woken a second by N firing processes", "redis-py"))
    ),
    "bystander": Block(
        "scale",
        Table(
            "fired meanwhile",
            {
                "bytes received": "bytes a node receives, by what is fired",
                "reads from its sockets": "reads from its sockets, by what is fired",
                "us of processor time": "us of processor time it spends, by what is fired",
            },
        ),
    ),
    "history": Block(
        "scale",
        Table(
            "lines of history",
            {
                "us a fire": "us a fire, by lines of history",
                "us of it in the server": "us of it in the server, by lines of history",
            },
        ),
    ),
    "maps": Block(
        "scale",
        Table(
            "maps",
            {
                "us a fire, into one": "us a fire into one of N maps",
                "us a fire, into all in turn": "us a fire spread over N maps",
                "us of that in the server": "us of it in the server, spread over N maps",
            },
        ),
    ),
}

_BLOCK = re.compile(r"(<!-- figures: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def fill(page: Path, results: Path) -> list[str]:
    """Rewrite the blocks of a page; return the names of those that have no figures yet."""
    empty: list[str] = []

    def rewritten(found: re.Match[str]) -> str:
        name = found[2]
        if name == "runs":
            return f"{found[1]}\n{_runs(results)}\n\n{found[3]}"
        block, path = BLOCKS[name], results / f"{BLOCKS[name].report}.json"
        if path.exists():
            body = _body(name, block, page.parent / "images", report.read(path)[1])
        else:
            empty.append(name)
            body = f"TODO-FIGURE: `{COMMANDS[block.report]}`, then `python benchmarks/plot.py`"
        return f"{found[1]}\n{body}\n\n{found[3]}"

    page.write_text(_BLOCK.sub(rewritten, page.read_text(encoding="utf-8")), encoding="utf-8")
    return empty


def _body(name: str, block: Block, images: Path, figures: report.Figures) -> str:
    picture = (
        f"![{block.picture}](images/{name}.svg)\n\n" if block.picture and (images / f"{name}.svg").exists() else ""
    )
    return picture + _table(block.table, figures)


def _runs(results: Path) -> str:
    """Return where, when and how each report was measured, and the versions of the one that has peers."""
    abouts = [report.read(results / f"{name}.json")[0] for name in COMMANDS if (results / f"{name}.json").exists()]
    lines = [f"- {source(about)}: `{about['command'].removeprefix('python benchmarks/')}`" for about in abouts]
    return "\n".join([*lines, "", *(_versions(about) for about in abouts[:1])])


def source(about: dict[str, Any]) -> str:
    """Return the machine and the date in one line."""
    machine = f"{about['cpu']}, {about['cores']} cores, {about['system']}, Python {about['python']}"
    return f"{machine}, {about['date'][:10]}"


def _versions(about: dict[str, Any]) -> str:
    servers = [_short(name, said) for name, said in about["servers"].items()]
    packages = [f"{name} {version}" for name, version in about["packages"].items()]
    return f"Servers: {', '.join(servers)}. Packages: {', '.join(packages)}."


def _short(name: str, said: str) -> str:
    """Return a server's name and the version that is in what it says."""
    version = re.search(r"\d+(\.\d+)+", said)
    return f"{name} {version[0]}" if version else name


def _table(table: Table, figures: report.Figures) -> str:
    """Return the medians as Markdown."""
    columns = {heading: figures[name] for heading, name in table.columns.items() if name in figures}
    headings = [table.subjects]
    for heading in columns:
        headings += [heading, "coord is"] if table.versus else [heading]
    lines = [_row(headings), "|---|" + "---:|" * (len(headings) - 1)]
    subjects = dict.fromkeys(subject for values in columns.values() for subject in values)
    # Peers in the order of the benchmark, sizes in their own.
    for subject in sorted(subjects, key=lambda name: int(name) if name.isdigit() else 0):
        cells = [report.subject(subject)]
        for values in columns.values():
            cells.append(_cell(values.get(subject, [])))
            if table.versus:
                cells.append(_ratio(values, subject))
        lines.append(_row(cells))
    return "\n".join(lines)


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(values: list[float]) -> str:
    return report.number(median(values)) if values else ""


def _ratio(values: dict[str, list[float]], subject: str) -> str:
    if subject == "coord" or not values.get(subject) or "coord" not in values:
        return ""
    return f"{report.ratio(values['coord'], values[subject]):.2f} x"
