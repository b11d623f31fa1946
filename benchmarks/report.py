"""What every benchmark leaves behind: the same JSON, with the machine, the date and the command beside the figures.

A file is ``{"about": {...}, "figures": {FIGURE: {SUBJECT: [a value a round]}}}``; a figure is a name with its unit, a
subject is a peer, or a size.
"""

from __future__ import annotations

import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

__all__ = [
    "RESULTS",
    "ROOT",
    "Figures",
    "about",
    "add",
    "add_ratios",
    "number",
    "ratio",
    "read",
    "subject",
    "table",
    "write",
]

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"

Figures = dict[str, dict[str, list[float]]]

_PACKAGES = (
    "coord",
    "twisted",
    "txredisapi",
    "hiredis",
    "redis",
    "nats-py",
    "aetcd",
    "kazoo",
    "distributed",
)
_SERVERS = (("redis-server", "--version"), ("nats-server", "--version"), ("etcd", "--version"))


def add(figures: Figures, figure: str, subject: object, value: float) -> None:
    """Note one value of one round."""
    figures.setdefault(figure, {}).setdefault(str(subject), []).append(value)


def write(path: Path, figures: Figures) -> None:
    """Write the figures, and what must be known to judge them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"about": about(), "figures": figures}, indent=1) + "\n", encoding="utf-8")


def read(path: Path) -> tuple[dict[str, Any], Figures]:
    """Return what is known of a run, and its figures."""
    report = json.loads(path.read_text(encoding="utf-8"))
    return report["about"], report["figures"]


def about() -> dict[str, Any]:
    """Return where, when and how this run was made."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": _command(),
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": " ".join([platform.system(), *platform.release().split("-")[:1]]),
        "python": platform.python_version(),
        "packages": {name: installed for name in _PACKAGES if (installed := _installed(name))},
        "servers": {words[0]: said for words in _SERVERS if (said := _said(*words))},
    }


def _command() -> str:
    """Return what was typed, as it would be typed at the top of the project."""
    program, *options = sys.argv
    # Nobody's home folder belongs into a page.
    options = [Path(word).name if word.startswith("/") else word for word in options]
    return shlex.join(["python", Path(program).resolve().relative_to(ROOT).as_posix(), *options])


def _cpu() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _installed(name: str) -> str:
    with suppress(PackageNotFoundError):
        return version(name)
    return ""


def _said(*words: str) -> str:
    """Return the first line that a command prints; nothing where there is no such command."""
    if shutil.which(words[0]) is None:
        return ""
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return done.stdout.partition("\n")[0].strip()


# In words.


def ratio(mine: list[float], other: list[float]) -> float:
    """Return how many times mine is the other: the median of the pairs of one round."""
    return median(one / two if two else float("inf") for one, two in zip(mine, other, strict=False))


def add_ratios(figures: Figures, mine: str, other: str) -> None:
    """Add, for each figure "NAME: mine" that has a "NAME: other", the ratio of each round."""
    for figure in list(figures):
        name, _, who = figure.rpartition(": ")
        others = figures.get(f"{name}: {other}", {})
        if who == mine and others:
            figures[f"{name}: {mine} / {other}"] = {
                subject: [one / two for one, two in zip(values, others[subject], strict=True)]
                for subject, values in figures[figure].items()
                if subject in others
            }


def number(value: float) -> str:
    """Return a value in as many digits as mean something."""
    if value == 0:
        return "0"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:,.1f}" if abs(value) >= 10 else f"{value:,.2f}"


def subject(name: str) -> str:
    """Return a subject as it is read best: a size with its commas."""
    return f"{int(name):,}" if name.isdigit() else name


def table(figures: Figures) -> str:
    """Return the medians and the extremes of all rounds, for a terminal."""
    lines = []
    for figure, subjects in figures.items():
        lines += [figure, f"  {'':32}{'median':>12}{'min':>12}{'max':>12}"]
        for name, values in subjects.items():
            shown = "".join(f"{number(value):>12}" for value in (median(values), min(values), max(values)))
            lines.append(f"  {subject(name):32}{shown}")
    return "\n".join(lines)
