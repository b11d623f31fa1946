"""The gateway's metrics, beside those of its nodes. It needs the extra ``web`` (prometheus_client)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector as Base
from prometheus_client.utils import floatToGoString

from coord.metrics import Collector
from coord.web.gateway import Gateway
from coord.web.tally import BUCKETS
from coord.web.waits import waited_for
from coord.web.watching import hub_of

__all__ = ["WebCollector", "shown"]

_ODD: Final = re.compile(r"version=(?!\s*(?:;|$)|[0-9]{1,4}(?:\.[0-9]{1,4}){0,3}\s*(?:;|$))")
"""A version that is no version: prometheus_client would put it into the answer's Content-Type, or fail at it."""


class WebCollector(Base):
    """Collects from one gateway. No label holds a map, a key or a token: routes are templates."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def collect(self) -> Iterator[Metric]:
        """Return the families."""
        gateway = self._gateway
        yield from self._requests()
        yield _gauge("coord_web_connections", "Connections.", gateway.limits.connections.taken)
        yield _gauge("coord_web_waits", "Keys that are waited for.", waited_for(gateway).taken)
        yield from self._streams()

    def describe(self) -> Iterable[Metric]:
        """Return the families without samples: registering scrapes nothing."""
        return []

    def _requests(self) -> Iterator[Metric]:
        tally = self._gateway.tally
        requests = CounterMetricFamily(
            "coord_web_requests",
            "Requests that were answered; status 0: the client hung up before.",
            labels=("route", "method", "status"),
        )
        for (route, method, status), count in tally.requests.items():
            requests.add_metric((route, method, str(status)), count)
        yield requests
        durations = HistogramMetricFamily(
            "coord_web_request_duration_seconds",
            "From the headers to the answer; not waits and streams.",
            labels=("route",),
        )
        bounds = [*map(floatToGoString, BUCKETS), "+Inf"]
        for route, counts in tally.durations.items():
            buckets = list(zip(bounds, accumulate(counts), strict=True))
            durations.add_metric((route,), buckets, tally.seconds[route])
        yield durations

    def _streams(self) -> Iterator[Metric]:
        hub = hub_of(self._gateway)
        counts = hub.counts
        yield _gauge("coord_web_streams", "Streams.", len(hub))
        yield _counter("coord_web_stream_events", "Changes sent to streams.", counts.events)
        yield _counter("coord_web_stream_bytes", "Bytes sent to streams.", counts.bytes)
        yield _by("coord_web_streams_ended", "Streams that ended.", "reason", counts.ends)
        resumes = {**counts.resumes, "lost": counts.lost}
        yield _by("coord_web_resumes", "Where streams that came back went on.", "from", resumes)


def _gauge(name: str, words: str, value: float) -> Metric:
    return GaugeMetricFamily(name, words, value=value)


def _counter(name: str, words: str, value: float) -> Metric:
    return CounterMetricFamily(name, words, value=value)


def _by(name: str, words: str, label: str, counts: dict[str, int]) -> Metric:
    family = CounterMetricFamily(name, words, labels=(label,))
    for value, count in counts.items():
        family.add_metric((value,), count)
    return family


def shown(gateway: Gateway, accept: str) -> tuple[bytes, str]:
    """Return all metrics of this process, in the format that is asked for, and its media type."""
    registry = CollectorRegistry()
    registry.register(Collector())
    registry.register(WebCollector(gateway))
    encode, content_type = choose_encoder(",".join(each for each in accept.split(",") if not _ODD.search(each)))
    return encode(registry), content_type
