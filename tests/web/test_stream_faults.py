"""Streams of real gateways: killed, stopped and restarted, with a server that dies, and clients that do not read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cli.processes import RedisServer
from web.client import ALL
from web.conftest import Process
from web.stream_client import Broken
from web.stream_processes import Stage


@pytest.fixture
def stage(own_server: Callable[..., RedisServer], tmp_path: Path) -> Iterator[Stage]:
    """Give a server that keeps what it acknowledged, and two gateways."""
    config = tmp_path / "web.toml"
    config.write_text(f"anonymous = {list(ALL)}\nlimits = {{ rate = 10_000, burst = 10_000 }}\n")
    server = own_server("--appendonly", "yes", "--appendfsync", "always")
    stage = Stage(server, lambda: Process(server.url, config))
    yield stage
    stage.close()


def test_no_round_loses_a_change(stage: Stage, stream_rounds: int) -> None:
    """Every client sees each change once and in order, or is told that some are lost."""
    shown = 0
    for seed in range(stream_rounds):
        try:
            some, _ = stage.play(seed)
        except Broken as broken:
            pytest.fail(f"round {seed}: {broken}", pytrace=False)
        shown += some
    assert shown > 100 * stream_rounds
