"""An authority and a folder for its certificates."""

from __future__ import annotations

import pytest

from security.certificates import Authority


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Give an authority that the tests' nodes trust."""
    return Authority(tmp_path_factory.mktemp("authority"), "authority")
