"""What the metrics of a node say of it."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("prometheus_client", reason="prometheus_client is not installed (extra metrics)")

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

import coord
from coord.metrics import Collector, registry
from coord.testing import Cluster
from support.figures import figure

CONTRIB = Path(coord.__file__).parent / "contrib"
PANELS = json.loads((CONTRIB / "grafana" / "coord.json").read_text())


@pytest.fixture
def memory() -> Iterator[Cluster]:
    """Give a cluster, which leaves nothing behind."""
    with Cluster() as cluster:
        yield cluster


def values(name: str, **labels: str) -> float:
    """Return the sum of all samples with this name and these labels."""
    samples = [sample for family in Collector().collect() for sample in family.samples if sample.name == name]
    return sum(each.value for each in samples if labels.items() <= each.labels.items())


def series() -> int:
    """Return how many series a scrape has."""
    return sum(len(family.samples) for family in Collector().collect())


def test_what_a_node_does_is_counted(memory: Cluster) -> None:
    """Waits, wakes, calls and their outcomes, changes, and what is there now."""
    a = memory.node("a")
    b = memory.node("b").events("m")
    waits = [b["k"], b["l"], b["gone"]]
    memory.settle()
    assert values("coord_waiters", node="b") == 3
    events = a.events("m")
    assert memory.result(events.fire("k")).first
    assert not memory.result(events.fire("k")).first
    memory.result(events.fail("l", "no"))
    waits[1].addErrback(lambda _: None)
    waits[2].addErrback(lambda _: None)
    waits[2].cancel()
    memory.settle()
    counted = {
        ("coord_waits_total", "m"): 3,
        ("coord_wakes_total", "m"): 3,
        ("coord_waiters", None): 0,
        ("coord_cached_records", None): 2,
    }
    for (name, map_name), expected in counted.items():
        assert values(name, node="b", **({"map": map_name} if map_name else {})) == expected, name
    assert values("coord_wakes_total", node="b", result="cancelled") == 1
    assert values("coord_calls_total", node="a", outcome="first") == 2
    assert values("coord_calls_total", node="a", outcome="already") == 1
    assert values("coord_calls_total", node="a", outcome="refused") == 0
    assert values("coord_link_state", node="a", coord_link_state="connected") == 1
    assert values("coord_link_state", node="a") == 1
    assert values("coord_link_connected_timestamp_seconds", node="a") > 1.7e9
    assert values("coord_node_info", node="a", namespace="default") == 1
    memory.result(b.reset("k"))
    assert memory.result(b.fire("k", once="x")).first


def test_a_call_that_fails_is_counted_by_its_error(memory: Cluster) -> None:
    """Not applied, unknown, or refused; and a call that is answered with an error is not called a success."""
    a = memory.node("a")
    events = a.events("m")
    memory.result(events.count("counter"))
    with pytest.raises(coord.WrongKind):
        memory.result(events.fire("counter"))
    assert values("coord_calls_total", node="a", outcome="refused") == 1
    assert values("coord_calls_total", node="a", outcome="already") == 0
    memory.server.stop()
    failing = events.fire("k", timeout=1)
    failing.addErrback(lambda failure: failure.trap(coord.Unreachable))
    memory.advance(2)
    assert values("coord_calls_total", node="a", outcome="unreachable") == 1
    assert values("coord_link_losses_total", node="a") == 1
    assert values("coord_link_state", node="a", coord_link_state="suspended") == 1


def test_holds_and_leases_are_shown(memory: Cluster) -> None:
    """How much is held, how many locks are owned, and how long the server keeps that for certain."""
    a, b = memory.node("a"), memory.node("b")
    memory.result(a.events("m").hold("k"))
    memory.result(a.events("n").lock("l"))
    waiting = b.events("n").lock("l")
    memory.settle()
    assert [values(f"coord_{what}", node="a") for what in ("holds", "locks", "leases")] == [2, 1, 2]
    assert [values(f"coord_{what}", node="b") for what in ("holds", "locks", "leases")] == [1, 0, 1]
    assert 0 < values("coord_lease_left_seconds", node="a") <= 20
    memory.server.stop()
    memory.advance(25)
    assert values("coord_lease_left_seconds", node="a") < 0
    waiting.addErrback(lambda _: None)
    waiting.cancel()


def test_what_waits_is_what_the_table_has(memory: Cluster) -> None:
    """The gauge, a difference of counters, is the number of waiters after every way in which a wait can end."""
    a, b = memory.node("a"), memory.node("b")
    events = b.events("m")

    def check(expected: int) -> None:
        memory.settle()
        assert (values("coord_waiters", node="b"), b.statistics().waiters) == (expected, expected)

    waits: list[Any] = [events["k"], events["k"], events["k"], events.gone("k"), events.reaches("n", 2)]
    waits += [events.wait("t", timeout=1), events.gone("x")]
    for wait in waits:
        wait.addErrback(lambda _: None)
    # What is pending is gone already.
    check(5)
    waits[0].addCallback(lambda _: waits[1].cancel())
    memory.result(a.events("m").fire("k"))
    check(2)
    memory.advance(2)
    check(1)
    memory.result(a.events("m").count("n", 2))
    check(0)
    waits = [events["c"], events["d"], events.gone("k")]
    for wait in waits:
        wait.addErrback(lambda _: None)
    check(3)
    memory.server.drop_connections()
    check(3)
    figures = b._session.figures
    memory.result(b.close())
    assert figures().waiters == 0


def test_a_closed_node_leaves_the_metrics(memory: Cluster) -> None:
    """Whoever connects again and again has no more series than before."""
    memory.node("a")
    before = series()
    for _ in range(3):
        memory.result(memory.node("b").close())
    assert series() == before


def test_nodes_of_one_name_are_one_series(memory: Cluster) -> None:
    """Two nodes of a process under one name are counted together, as no scrape may have a series twice."""
    first, second = memory.node("a"), memory.node("a")
    for node in (first, second):
        memory.result(node.events("m").pulse("k"))
    assert values("coord_calls_total", node="a", outcome="first") == 2
    samples = [sample for family in Collector().collect() for sample in family.samples]
    assert len({(each.name, *sorted(each.labels.items())) for each in samples}) == len(samples)


def test_no_series_grow_without_bound(memory: Cluster) -> None:
    """With 10,000 maps and 100,000 keys, there are as many series as with 50; those stay."""
    a = memory.node("a")
    first = [a.events(f"m{number}") for number in range(50)]
    waits = [events["k"] for events in first]
    memory.settle()
    before = series()
    for number in range(50, 10_050):
        for key in range(10):
            waits.append(a.events(f"m{number}")[f"k{key}"])
    assert series() == before + 4
    assert values("coord_waits_total", map="_other") == 100_000
    assert values("coord_waits_total", map="m0") == 1
    shown = registry()
    begun = time.perf_counter()
    for _ in range(100):
        text = generate_latest(shown)
    took = (time.perf_counter() - begun) / 100
    figure(f"a scrape of a node with {len(waits):,} waiters takes {took * 1000:.2f} ms, {len(text)} bytes")
    for wait in waits:
        wait.addErrback(lambda _: None)
    memory.result(a.close())


def families() -> list[Metric]:
    """Return all families, as a new node has them."""
    with Cluster() as cluster:
        cluster.result(cluster.node("a").events("m").pulse("k"))
        return list(Collector().collect())


def test_both_parsers_read_what_is_shown(memory: Cluster) -> None:
    """Every family has a help text, a type, and a name as Prometheus asks for; labels are as said."""
    memory.result(memory.node("a").events("m").pulse("k"))
    shown = registry()
    texts: list[Any] = [parse(generate_latest(shown).decode())]
    texts.append(parse_openmetrics(generate_openmetrics(shown).decode()))  # type: ignore[no-untyped-call]
    for family in (family for text in texts for family in text):
        assert family.documentation.endswith(".")
        assert re.fullmatch(r"coord_[a-z_]+", family.name)
        assert family.type in ("counter", "gauge", "info", "stateset")
        for sample in family.samples:
            assert {"namespace", "node", "server"} <= sample.labels.keys()
            assert not sample.labels.keys() & {"key", "value", "token"}


def test_it_can_be_registered_beside_others() -> None:
    """A registry that has other metrics takes it, once."""
    other = CollectorRegistry()
    other.register(Collector())
    assert b"coord_node" in generate_latest(other)


def named_in(expression: str) -> set[str]:
    """Return the metrics that a query names."""
    return set(re.findall(r"\bcoord_\w+(?=\{|\[|,| |\)|$)", re.sub(r'"[^"]*"', '""', expression))) - {
        "coord_link_state="
    }


def expressions() -> list[str]:
    """Return every query of the dashboard and of the alert rules."""
    yaml: Any = pytest.importorskip("yaml", reason="PyYAML is not installed (extra docs)")
    rules = yaml.safe_load((CONTRIB / "prometheus" / "alerts.yml").read_text())
    found = [target["expr"] for panel in PANELS["panels"] for target in panel.get("targets", [])]
    found += [each["query"] for each in PANELS["templating"]["list"] if each["type"] == "query"]
    return found + [rule["expr"] for group in rules["groups"] for rule in group["rules"]]


def test_every_metric_that_is_named_exists() -> None:
    """Dashboard, alert rules and page name no metric that a node does not have, and leave none out of the page."""
    real = {sample.name for family in families() for sample in family.samples}
    used = {name for each in expressions() for name in named_in(each)}
    assert len(used) > 10
    assert used <= real
    page = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    section = page.partition("## Metrics")[2].partition("\n## ")[0]
    assert set(re.findall(r"`(coord_\w+)`", section)) == real


def test_the_dashboard_fits_any_grafana() -> None:
    """It has no data source and no identity of somebody's Grafana, and each panel a place of its own."""
    assert "uid" not in PANELS
    assert not {"__inputs", "id"} & PANELS.keys()
    for panel in PANELS["panels"]:
        assert panel.get("datasource", {}).get("uid", "${datasource}") == "${datasource}"
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in PANELS["panels"]]
    assert len(set(places)) == len(places)
