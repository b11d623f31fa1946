"""Metrics of the nodes of this process, for Prometheus. It needs the extra ``metrics`` (prometheus_client).

`Collector` reads the nodes at each scrape: there is nothing to update meanwhile, and nothing is stale. No label holds a
key. A node names 50 maps, the first that it uses, and counts the others as ``_other``, so the number of series has a
limit. A node that is closed leaves the metrics.

In a program that has a site of its own::

    registry = coord.metrics.registry()
    site.putChild(b"metrics", coord.metrics.resource(registry))

In one that has another server, register a `Collector` with prometheus_client's registry.
"""

from __future__ import annotations

from importlib.util import find_spec

if find_spec("prometheus_client") is None:
    raise ImportError("coord.metrics needs prometheus_client: pip install 'coord[metrics]'")

from coord.metrics.collector import Collector, registry
from coord.metrics.site import listen, resource

__all__ = ["Collector", "listen", "registry", "resource"]
