"""An authority and a folder for its certificates."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from security.certificates import Authority
from security.fuzz import TRIED
from support.figures import figure


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Give an authority that the tests' nodes trust."""
    return Authority(tmp_path_factory.mktemp("authority"), "authority")


@pytest.fixture(scope="session", autouse=True)
def _tally() -> Iterator[None]:
    yield
    if TRIED:
        figure("inputs tried: " + ", ".join(f"{number} {what}" for what, number in TRIED.items()))
