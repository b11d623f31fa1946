"""Host names that make bad node names."""

from __future__ import annotations

import pytest

from coord.mounts.names import doubt


@pytest.mark.parametrize(
    "host", ["web1", "web1.example.com", "db-2_a", "deadbeef", "cafe12345678.example.com", "0123456789ab0"]
)
def test_names_without_doubt(host: str) -> None:
    """An ordinary host name is taken as it is, without a word."""
    assert doubt(host, host) == ""


@pytest.mark.parametrize(
    ("host", "node", "why"),
    [
        ("höst", "h-st", "the host name 'höst' cannot be a node name, so this host announces as h-st"),
        ("web 1", "web-1", "announces as web-1"),
        ("", "unnamed", "the host name '' cannot be a node name"),
        ("x" * 200, "x" * 128, "announces as xxx"),
        ("localhost", "localhost", "other hosts may be called localhost too"),
        ("Localhost.localdomain", "Localhost.localdomain", "other hosts"),
        ("raspberrypi", "raspberrypi", "other hosts"),
        ("0f3a9c1b2d4e", "0f3a9c1b2d4e", "looks like a container's id"),
    ],
)
def test_names_in_doubt(host: str, node: str, why: str) -> None:
    """A name that was changed, that others are likely to have, or that will change is said."""
    assert why in doubt(host, node)
