"""The collector: from the figures of the nodes to families of metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cache
from importlib.metadata import version
from math import inf, nan

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
    StateSetMetricFamily,
)
from prometheus_client.registry import Collector as Base

from coord.link.link import LinkState
from coord.session.figures import Figures, every_node

__all__ = ["Collector", "registry"]

_NODE = ("namespace", "node", "server")

_Read = Callable[[Figures], float]

_COUNTERS: tuple[tuple[str, str, _Read], ...] = (
    ("coord_link_attempts", "Attempts to connect.", lambda it: it.attempts),
    ("coord_link_losses", "Links that were lost.", lambda it: it.losses),
    ("coord_wait_cache_hits", "Waits that the live cache answered, without asking.", lambda it: it.counters.cache_hits),
    ("coord_batches", "Batches of calls that were answered.", lambda it: it.counters.batches),
    ("coord_changes_read", "Changes that watches have read.", lambda it: it.counters.changes),
    ("coord_history_lost", "Watches that ended because the history was lost.", lambda it: it.counters.histories_lost),
)
_GAUGES: tuple[tuple[str, str, _Read], ...] = (
    (
        "coord_link_connected_timestamp_seconds",
        "When the link was made last, in seconds since 1970; 0 before the first.",
        lambda it: it.linked_at,
    ),
    (
        "coord_link_round_trip_seconds",
        "What the last heartbeat took, through both connections; NaN without a link.",
        lambda it: nan if it.round_trip == inf else it.round_trip,
    ),
    ("coord_waiters", "Waits that are not resolved.", lambda it: it.waiters),
    ("coord_subscriptions", "Channels that are subscribed to.", lambda it: it.subscriptions),
    ("coord_cached_records", "Records in the live cache.", lambda it: it.cached),
    ("coord_calls_pending", "Calls that are not answered.", lambda it: it.pending_calls),
    ("coord_watches", "Watches that are open.", lambda it: it.watches),
    ("coord_holds", "Holds and locks that are wanted.", lambda it: it.holds),
    ("coord_locks", "Locks that are owned.", lambda it: it.locks),
    ("coord_leases", "Maps in which a lease is kept.", lambda it: it.leases),
    (
        "coord_lease_left_seconds",
        "Until the first lease may end if it is not renewed; NaN without one, below 0 it may be over.",
        lambda it: it.lease_left if -inf < it.lease_left < inf else nan,
    ),
)
_WAKES = (("value", "wakes"), ("cancelled", "cancelled"), ("failed", "failed"))


class Collector(Base):
    """Collects from all nodes of this process, whichever door made them. Any thread may scrape it."""

    def collect(self) -> Iterator[Metric]:
        """Return the families."""
        nodes = list(every_node())
        yield from _info(nodes)
        for name, words, read in _COUNTERS:
            yield _family(CounterMetricFamily(name, words, labels=_NODE), nodes, read)
        for name, words, read in _GAUGES:
            yield _family(GaugeMetricFamily(name, words, labels=_NODE), nodes, read)
        yield from _by_map(nodes)
        yield _calls(nodes)

    def describe(self) -> Iterable[Metric]:
        """Return the families without samples: registering scrapes nothing."""
        return []


def registry() -> CollectorRegistry:
    """Return a registry with this collector alone."""
    new = CollectorRegistry()
    new.register(Collector())
    return new


@cache
def _version() -> str:
    return version("coord")


def _labels(node: Figures) -> tuple[str, str, str]:
    return node.namespace, node.node, node.server


def _summed(samples: Iterable[tuple[tuple[str, ...], float]]) -> dict[tuple[str, ...], float]:
    """Return the sum for each set of labels: two nodes of a process may have one name."""
    sums: dict[tuple[str, ...], float] = {}
    for labels, value in samples:
        sums[labels] = sums.get(labels, 0) + value
    return sums


def _filled(
    family: CounterMetricFamily | GaugeMetricFamily, samples: Iterable[tuple[tuple[str, ...], float]]
) -> Metric:
    for labels, value in _summed(samples).items():
        family.add_metric(labels, value)
    return family


def _family(family: CounterMetricFamily | GaugeMetricFamily, nodes: list[Figures], read: _Read) -> Metric:
    return _filled(family, ((_labels(node), read(node)) for node in nodes))


def _info(nodes: list[Figures]) -> Iterator[Metric]:
    info = InfoMetricFamily("coord_node", "The nodes of this process.", labels=_NODE)
    states = StateSetMetricFamily("coord_link_state", "The state of the link to the server.", labels=_NODE)
    by_name: dict[tuple[str, str, str], set[LinkState]] = {}
    for node in nodes:
        by_name.setdefault(_labels(node), set()).add(node.link)
    for labels, found in by_name.items():
        info.add_metric(labels, {"version": _version()})
        states.add_metric(labels, {str(state): state in found for state in LinkState})
    yield info
    yield states


def _by_map(nodes: list[Figures]) -> Iterator[Metric]:
    labels = (*_NODE, "map")
    waits = CounterMetricFamily("coord_waits", "Waits that the live cache did not answer.", labels=labels)
    tallies = [((*_labels(node), name), tally) for node in nodes for name, tally in node.tallies.items()]
    yield _filled(waits, ((key, tally.waits) for key, tally in tallies))
    wakes = CounterMetricFamily("coord_wakes", "Waits that ended, by an event or else.", labels=(*labels, "result"))
    yield _filled(wakes, (((*key, word), getattr(tally, name)) for key, tally in tallies for word, name in _WAKES))


def _calls(nodes: list[Figures]) -> Metric:
    family = CounterMetricFamily("coord_calls", "Calls that ended, by outcome.", labels=(*_NODE, "outcome"))
    return _filled(family, (((*_labels(node), word), count) for node in nodes for word, count in _outcomes(node)))


def _outcomes(node: Figures) -> Iterator[tuple[str, int]]:
    counters = node.counters
    yield "first", counters.firsts
    yield "already", counters.calls - counters.firsts - counters.refusals
    yield from counters.failures.items()
