"""What `coord.testing` exports."""

from __future__ import annotations

import coord.testing


def test_these_names_are_exported_and_described() -> None:
    """A user's test finds these names and no others; the package's docstring says what each is for."""
    exported = [
        "AioCluster",
        "BlockingCluster",
        "Cluster",
        "Deliver",
        "Delivery",
        "MemoryConnection",
        "MemoryEndpoint",
        "MemoryServer",
    ]
    assert coord.testing.__all__ == exported
    assert sorted(name for name in vars(coord.testing) if not name.startswith("_")) == exported
    assert [name for name in exported if f"`{name}`" not in str(coord.testing.__doc__)] == []


def test_what_a_user_does_with_a_server_has_a_description() -> None:
    """Every public method and property of the exported classes has a docstring."""
    classes = [coord.testing.Cluster, coord.testing.MemoryServer, coord.testing.MemoryEndpoint]
    members = [
        member
        for each in (*classes, coord.testing.MemoryConnection)
        for name, member in vars(each).items()
        if not name.startswith("_") and (callable(member) or isinstance(member, property))
    ]
    assert [member for member in members if not member.__doc__] == []
    assert len(members) > 20
