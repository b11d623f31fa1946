"""The body of ``coord web``: its settings, its sockets, its signals and its log."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import CannotListenError

import coord
from coord.cli import _notify, _signals
from coord.cli._exits import InUse
from coord.cli._job import Job
from coord.cli._talk import say, write
from coord.link.local import state_folder
from coord.web.addresses import Address, check_addresses
from coord.web.config import Config, load
from coord.web.gateway import Gateway
from coord.web.server import Server, remove_stale
from coord.web.tokens import read_key

__all__ = ["Serving"]

_DESCRIPTORS: Final = 65_536

_WRITTEN_EVERY: Final = 0.2
"""Seconds between two writes of the log: one for each line would take a tenth of the time of a request."""


class Serving:
    """One run of ``coord web``.

    :param config: the file of the settings.
    :param listen: where to listen, instead of what the settings say.
    :param inherited: descriptors of sockets that listen already, instead of both.
    """

    def __init__(self, config: Path | None, listen: tuple[str, ...], inherited: list[int], *, log: bool) -> None:
        self._path = config
        self._listen = listen
        self._inherited = inherited
        self._log = log

    async def run(self, job: Job) -> int:
        """Serve until a signal; then end in order."""
        config = self._config()
        _allow_many_descriptors()
        addresses = [] if self._inherited else [Address.parse(each) for each in self._listen or config.listen]
        check_addresses(addresses, config)
        slow = job.server.connect(job.reactor)
        try:
            key, target = self._key(config), job.server.target
            gateway = Gateway(job.coordinator, config, clock=job.reactor, slow=slow, key=key, target=target)
            log = _Log(job.reactor)
            if self._log:
                gateway.log = log.line
            server = Server(gateway)
            # Before anybody is told that it serves: until then SIGHUP ends it.
            _signals.catch([signal.SIGHUP], lambda *_: job.reactor.callFromThread(self._reload, server))
            await self._begin(job, server, addresses)
            with job.patient():
                await _signalled()
            await server.stop()
            log.write()
        finally:
            await slow.close()
        return 0

    # Sockets.

    async def _begin(self, job: Job, server: Server, addresses: list[Address]) -> None:
        if self._inherited:
            listening = [server.adopt(job.reactor, descriptor) for descriptor in self._inherited]
        else:
            listening = [await _listen(job.reactor, server, address) for address in addresses]
        where = ", ".join(address.url for address in listening)
        say(f"armed: serving {where}")
        job.supervisor.ready(f"serving {where}")

    # Settings.

    def _config(self) -> Config:
        return Config() if self._path is None else load(self._path)

    def _key(self, config: Config) -> bytes | None:
        """Return the key that signs cookies; `None` if there are no tokens: then no one can log in."""
        if not config.tokens:
            return None
        return read_key(Path(config.cookie_key) if config.cookie_key else _key_path())

    def _reload(self, server: Server) -> None:
        """Read the settings again; a broken file changes nothing."""
        microseconds = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        _notify.tell("RELOADING=1", f"MONOTONIC_USEC={microseconds}")
        try:
            config = self._config()
            server.configure(config, self._key(config))
        except coord.InvalidInput as error:
            say(f"the settings stay as they were: {error}")
        else:
            say("the settings were read again; listen holds for the next start")
        _notify.tell("READY=1")


def _allow_many_descriptors() -> None:
    """Allow as many connections as the system does: a shell's own limit is often 1,024."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _key_path() -> Path:
    # Several may be named; the first is ours.
    given = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    folder = Path(given) if given else state_folder()
    if folder is None:
        raise coord.InvalidInput("cookie_key: name a file in web.toml, as this user has no home directory")
    return folder / "web.key"


async def _listen(reactor: Any, server: Server, address: Address) -> Address:
    if address.path:
        remove_stale(Path(address.path))
    try:
        return await server.listen(reactor, address)
    except CannotListenError as error:
        why = getattr(error.socketError, "strerror", None) or error.socketError
        raise InUse(f"cannot listen at {address}: {why}") from None


async def _signalled() -> None:
    """Wait for a signal, which cancels; a second one is not caught, and so ends the orderly end."""
    with suppress(CancelledError):
        await Deferred()


class _Log:
    """The lines of the log, written a few times a second."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._lines: list[str] = []

    def line(self, text: str) -> None:
        """Keep a line for the next write."""
        if not self._lines:
            self._reactor.callLater(_WRITTEN_EVERY, self.write)
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        self._lines.append(f"{now} {text}\n")

    def write(self) -> None:
        """Write what is kept."""
        lines, self._lines = self._lines, []
        if lines:
            write("".join(lines))
