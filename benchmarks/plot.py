"""Draws the figures of the benchmarks into docs/images, and puts their tables into docs/performance.md.

``python benchmarks/plot.py [--tables]`` reads benchmarks/results/*.json; with ``--tables`` nothing is drawn, and no
matplotlib is needed. The same files give the same pictures, byte by byte.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import report
import tables

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#767676"
"""Okabe and Ito's: told apart by those who see few colours, and each has a mark of its own besides."""
STYLES = [(BLUE, "o", "-"), (ORANGE, "D", "-"), (GREEN, "s", "--"), (PURPLE, "^", "--")]

SETTINGS: Any = {
    # Ids in the file that are the same each time.
    "svg.hashsalt": "coord",
    # Text as text: small files, and words that can be searched for and read aloud.
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "figure.facecolor": "white",
}


def spread(values: list[float]) -> tuple[float, list[list[float]]]:
    """Return the median, and the whiskers that lead from it to the extremes."""
    middle = median(values)
    return middle, [[middle - min(values)], [max(values) - middle]]


# The kinds of pictures.


def bars(axes: Axes, subjects: dict[str, list[float]], label: str) -> None:
    """Draw a bar a peer, with whiskers from the slowest round to the fastest."""
    for name, values in subjects.items():
        middle, whiskers = spread(values)
        axes.barh(
            name,
            middle,
            xerr=whiskers,
            color=BLUE if name == "coord" else "#b5b5b5",
            height=0.65,
            error_kw={"elinewidth": 1, "capsize": 3, "ecolor": "#333333"},
        )
        axes.annotate(f"{middle:,.0f}", (max(values), name), (6, 0), textcoords="offset points", va="center")
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(label)
    axes.xaxis.set_major_formatter("{x:,.0f}")


def dots(axes: Axes, series: dict[str, dict[str, list[float]]], label: str) -> None:
    """Draw a mark a peer and series, with whiskers, on a logarithmic scale."""
    from matplotlib.ticker import LogLocator

    names = list(dict.fromkeys(name for subjects in series.values() for name in subjects))
    for (title, subjects), (color, mark, _) in zip(series.items(), STYLES, strict=False):
        for name, values in subjects.items():
            middle, whiskers = spread(values)
            first = name == next(iter(subjects))
            axes.errorbar(
                middle,
                names.index(name),
                xerr=whiskers,
                fmt=mark,
                color=color,
                capsize=3,
                label=title if first else None,
            )
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xscale("log")
    # A decade alone may hold all of them.
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:,g}")
    axes.minorticks_off()
    axes.set_xlabel(label)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=len(series))


def lines(axes: Axes, series: dict[str, dict[str, list[float]]], across: str, label: str, scale: str = "log") -> None:
    """Draw a line a series over the sizes, from zero on, so that what is flat looks flat."""
    sizes = sorted({int(size) for subjects in series.values() for size in subjects})
    for (title, subjects), (color, mark, dash) in zip(series.items(), STYLES, strict=False):
        found = [spread(values) for values in subjects.values()]
        whiskers = [[each[1][end][0] for each in found] for end in (0, 1)]
        axes.errorbar(
            list(map(int, subjects)),
            [each[0] for each in found],
            yerr=whiskers,
            marker=mark,
            color=color,
            linestyle=dash,
            capsize=3,
            label=title,
        )
    # The first size may be nothing at all, which a logarithm has no place for.
    axes.set_xscale(scale, **({"linthresh": next(filter(None, sizes))} if scale == "symlog" else {}))
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.margins(y=0.15)
    axes.yaxis.set_major_formatter("{x:,g}")
    axes.set_xlabel(across)
    axes.set_ylabel(label)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)


# The pictures, by the name of their block in the page.


def _series(figures: report.Figures, names: dict[str, str]) -> dict[str, dict[str, list[float]]]:
    return {title: figures[name] for title, name in names.items() if name in figures}


def woken(axes: Axes, figures: report.Figures) -> None:
    """Draw the throughput of all peers."""
    bars(axes, figures["keys woken a second"], "keys woken a second; whiskers: slowest and fastest round")


def latency(axes: Axes, figures: report.Figures) -> None:
    """Draw how long one fire takes."""
    names = {"median": "median latency, us", "99th percentile": "p99 latency, us"}
    dots(axes, _series(figures, names), "µs from the call of fire to the handler, one key at a time")


def bytes_(axes: Axes, figures: report.Figures) -> None:
    """Draw what a waiter takes."""
    names = {
        "coord, a waiter": "traced bytes a waiter: coord",
        "bare Deferred in a dict": "traced bytes a waiter: bare",
        "coord, a waiter, resident": "resident bytes a waiter: coord",
        "coord, a cached key, resident": "resident bytes a cached key: coord",
    }
    lines(axes, _series(figures, names), "waiters, or cached keys, in one process", "bytes each")


def fan_out(axes: Axes, figures: report.Figures) -> None:
    """Draw when the last node is notified."""
    name = "fan-out, us to the last of N nodes"
    series = _series(figures, {who: f"{name}: {who}" for who in ("coord", "redis-py")})
    lines(axes, series, "waiting nodes, in two processes", "µs from fire to the last", "linear")


PLOTS: dict[str, Callable[[Axes, report.Figures], None]] = {
    "woken": woken,
    "latency": latency,
    "bytes": bytes_,
    "fan-out": fan_out,
}


def draw(name: str, about: dict[str, Any], figures: report.Figures, folder: Path) -> None:
    """Write one picture, with the machine, the date and the command in small print."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    with pyplot.rc_context(SETTINGS):
        figure, axes = pyplot.subplots(figsize=(7, 3.4))
        PLOTS[name](axes, figures)
        figure.tight_layout(rect=(0, 0.1, 1, 1))
        small = f"{tables.source(about)}\n{about['command']}"
        figure.text(0.01, 0.02, small, fontsize=6.5, color="#555555", va="bottom")
        metadata = {"Date": None, "Creator": None, "Title": tables.BLOCKS[name].picture}
        folder.mkdir(parents=True, exist_ok=True)
        figure.savefig(folder / f"{name}.svg", metadata=metadata)
        pyplot.close(figure)


def main() -> None:
    """Draw what there are results of, and fill the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", action="store_true", help="only the tables")
    parser.add_argument("--results", type=Path, default=report.RESULTS, help="the folder with the JSON files")
    parser.add_argument("--docs", type=Path, default=report.ROOT / "docs", help="the folder with performance.md")
    options = parser.parse_args()
    for name in [] if options.tables else PLOTS:
        path = options.results / f"{tables.BLOCKS[name].report}.json"
        if path.exists():
            draw(name, *report.read(path), options.docs / "images")
    for name in tables.fill(options.docs / "performance.md", options.results):
        print(f"no figures yet: {name}")


if __name__ == "__main__":
    main()
