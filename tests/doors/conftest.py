"""One server for all tests of a file; each test has a namespace of its own."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from doors.servers import Server


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """Run a server."""
    # The path of a unix socket is short.
    folder = Path(tempfile.mkdtemp(prefix="coord-doors-"))
    server = Server(folder)
    yield server
    server.stop()
    shutil.rmtree(folder)


@pytest.fixture
def where(server: Server) -> dict[str, Any]:
    """Return the arguments of `connect`, but for the node's name."""
    return {"address": server.url, "namespace": uuid4().hex, "heartbeat": 0.5, "timeout": 10.0}
