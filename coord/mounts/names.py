"""Which host names make bad node names."""

from __future__ import annotations

import re

__all__ = ["doubt"]

# What installers and images call a host.
_DEFAULTS = {"debian", "localhost", "raspberrypi", "ubuntu", "unnamed"}
_CONTAINER = re.compile("[0-9a-f]{12}|[0-9a-f]{64}")


def doubt(host: str, node: str) -> str:
    """Return why a node that takes its name from its host may not keep it, or share it; else an empty text.

    The mount agent needs a name that is unique to the host and survives restarts.

    :param host: the host's name.
    :param node: the name that was made of it.
    """
    if node != host:
        return f"the host name {host!r} cannot be a node name, so this host announces as {node}"
    if node.partition(".")[0].lower() in _DEFAULTS:
        return f"other hosts may be called {node} too"
    if _CONTAINER.fullmatch(node):
        return f"{node} looks like a container's id: after a restart another name would announce"
    return ""
