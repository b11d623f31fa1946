"""The script in examples/http that runs a command while it has a lock, with nothing but curl."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

import coord.blocking
from cli.processes import RedisServer
from web.conftest import Process

pytestmark = [
    pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed (Debian package curl)"),
    pytest.mark.skipif(not Path("/proc/uptime").exists(), reason="there is no /proc/uptime: this is no Linux"),
]

SCRIPT = Path(__file__).parents[2] / "examples" / "http" / "lock.sh"


class Script:
    """Runs of the script, for one lock of a map of its own."""

    def __init__(self, gateway: Process, server: RedisServer) -> None:
        self.name = f"jobs-{uuid4().hex}"
        self._url = f"{gateway.url}/v1/maps/{self.name}"
        self._runs: list[subprocess.Popen[str]] = []
        self.node = coord.blocking.connect(server.url)
        self.jobs = self.node.events(self.name)

    def run(self, *command: str, ttl: str = "") -> subprocess.Popen[str]:
        """Begin to run it."""
        words = ["sh", str(SCRIPT), self._url, "a job", *command]
        environment = {**os.environ, "TTL": ttl}
        run = subprocess.Popen(
            words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        self._runs.append(run)
        return run

    def owner(self) -> str | None:
        """Return the token of the lock's owner."""
        record = self.jobs.record("a job")
        return record.token if record is not None else None

    def end(self) -> None:
        """End all that runs."""
        for run in self._runs:
            if run.poll() is None:
                os.killpg(run.pid, signal.SIGKILL)
            run.communicate()
        self.node.close()


@pytest.fixture
def script(gateway_process: Process, shared_server: RedisServer) -> Iterator[Script]:
    """Give the script, and end what it runs."""
    made = Script(gateway_process, shared_server)
    yield made
    made.end()


def test_one_at_a_time(script: Script) -> None:
    """A command has the lock while it runs, and its token; the next one waits; the status is the command's."""
    first = script.run("sh", "-c", "echo $COORD_TOKEN; read line; exit 7")
    assert first.stdout is not None
    # Its standard input is empty, so it ends at once.
    token = first.stdout.readline().strip()
    assert first.wait(timeout=30) == 7
    assert script.owner() is None
    with script.jobs.lock("a job") as lock:
        assert lock.token > token
        second = script.run("sh", "-c", "echo $COORD_TOKEN")
        while script.jobs.holders("a job")[0] < 2:
            assert second.poll() is None
    told, _ = second.communicate(timeout=30)
    assert told.strip() > lock.token
    assert second.returncode == 0


def test_it_is_renewed_and_ends_with_the_lock(script: Script) -> None:
    """The command runs for longer than a third of the lease; it is ended when the lock is taken away."""
    run = script.run("sleep", "60", ttl="10")
    while script.owner() is None:
        assert run.poll() is None
    script.jobs.reset("a job", evict=True)
    _, said = run.communicate(timeout=30)
    assert (run.returncode, said) == (5, "a job: the lock is lost\n")
    assert script.owner() is None


def test_a_signal_ends_the_command(script: Script) -> None:
    """The command is ended, and the lock given back."""
    run = script.run("sleep", "60")
    while script.owner() is None:
        assert run.poll() is None
    run.terminate()
    assert run.wait(timeout=30) == 128 + signal.SIGTERM
    assert script.owner() is None


def test_what_is_refused_is_said(script: Script) -> None:
    """A key that is an event is no lock."""
    script.jobs.fire("a job")
    run = script.run("true")
    _, said = run.communicate(timeout=30)
    assert run.returncode == 1
    assert "in-use" in said
