"""The way from other threads to a coordinator in the reactor's thread, and back."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from threading import RLock
from typing import Any, NoReturn, TypeVar, Unpack, cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from coord.blocking.job import Job
from coord.blocking.thread import ReactorThread
from coord.client import coordinator
from coord.client.options import OwnOptions
from coord.errors import Closed
from coord.link.forks import MADE_BEFORE
from coord.link.urls import Address

__all__ = ["Bridge"]

T = TypeVar("T")


class Bridge:
    """One coordinator of Twisted, in the reactor's thread of the process that made it.

    What threads ask meanwhile crosses together, and is sent together.
    """

    _log = Logger()

    def __init__(self, address: Address, **options: Unpack[OwnOptions]) -> None:
        self._process = os.getpid()
        # A signal's handler may ask something while its thread does.
        self._lock = RLock()
        self._jobs: list[Callable[[], object]] = []
        self._closed = False
        self._thread = ReactorThread.acquire(self)
        try:
            self.node = self._connect(address, options)
        except BaseException:
            self._thread.release(self)
            raise

    def _connect(self, address: Address, options: OwnOptions) -> coordinator.Coordinator:
        reactor = self._thread.reactor
        return self._thread.call(lambda: coordinator.connect(address, reactor=reactor, **options))

    def call(self, function: Callable[[], T]) -> T:
        """Call a function in the reactor's thread, and return its result."""
        return cast(T, self._wait(Job(function)))

    def call_anywhere(self, function: Callable[[], T]) -> T:
        """Do the same, also in the reactor's thread."""
        return function() if self._thread.is_current else self.call(function)

    def ask(self, ask: Callable[[], Deferred[T]], undo: Callable[[T], object] | None = None) -> T:
        """Call a function in the reactor's thread, and wait for the result of the Deferred that it returns.

        If that is interrupted, the Deferred is cancelled.

        :param undo: called in the reactor's thread with a result that came too late for that.
        """
        return cast(T, self._wait(Job(ask), undo))

    def _wait(self, job: Job, undo: Callable[[Any], object] | None = None) -> Any:
        self.check()
        self.submit(job.run)
        try:
            job.wait()
        except BaseException:
            # A signal, such as that of Ctrl-C.
            with suppress(Closed):
                self.submit(lambda: job.abandon(undo))
            raise
        return job.result()

    def begin(self, ask: Callable[[], Deferred[T]]) -> Future[T]:
        """Call a function in the reactor's thread; return a future of what comes of it."""
        answer = _Answer(self, ask)
        try:
            self.submit(answer.run)
        except Closed as error:
            answer.set_exception(error)
        return answer

    def check(self) -> None:
        """Raise `RuntimeError` in the reactor's thread, where to wait would be to wait for oneself."""
        if self._thread.is_current:
            raise RuntimeError(
                "a blocking call in coord's own thread would wait for itself: callbacks of futures and of on_link() "
                "run there; let them hand the work to a thread of yours"
            )

    @property
    def is_here(self) -> bool:
        """Whether this is the process that made it, and no child of a fork."""
        return os.getpid() == self._process

    def check_process(self) -> None:
        """Raise `Closed` in the child of a fork."""
        if not self.is_here:
            raise Closed(MADE_BEFORE)

    def submit(self, job: Callable[[], object]) -> None:
        """Have a function called in the reactor's thread, in the order of these calls; `Closed` in a forked child."""
        self.check_process()
        with self._lock:
            if self._closed:
                # The thread may have ended. A node that is closed answers at once, in any.
                self.node.adopt()
                job()
                return
            self._jobs.append(job)
            if len(self._jobs) == 1:
                self._thread.submit(self._run_jobs)

    def _run_jobs(self) -> None:
        with self._lock:
            jobs, self._jobs = self._jobs, []
        with self.node.turn():
            for job in jobs:
                try:
                    job()
                except Exception:  # noqa: BLE001 - the other threads must get their answers
                    self._log.failure("internal error")

    def close(self, *, withdraw: bool = True) -> None:
        """Close the coordinator, and return when its connections are gone."""
        self.ask(lambda: self.node.close(withdraw=withdraw))
        with self._lock:
            self._closed = True
        self._thread.release(self)

    def begin_close(self) -> Callable[[float], object]:
        """See `Served`."""
        closing = Job(lambda: self.node.close())
        self._thread.submit(closing.run)
        return closing.wait

    def forget(self) -> bool:
        """In the child of a fork: fail what is pending here, and close the descriptors; return whether it was open."""
        if self._closed:
            return False
        self._closed = True
        self.node.adopt()
        self.node.close(withdraw=False)
        self._thread.close_descriptors()
        return True


class _Answer(Future[T]):
    """A future that stays pending until it is resolved, so that it can be cancelled."""

    def __init__(self, bridge: Bridge, ask: Callable[[], Deferred[T]]) -> None:
        super().__init__()
        self._bridge = bridge
        self._ask = ask
        self._deferred: Deferred[T] | None = None

    def run(self) -> None:
        """Ask; in the reactor's thread, as all that follows."""
        if self.cancelled():
            self.set_running_or_notify_cancel()
            return
        try:
            self._deferred = self._ask()
        except Exception as error:  # noqa: BLE001 - raised in the thread that asked
            self._failed(Failure(error))
        else:
            self._deferred.addCallbacks(self._succeeded, self._failed)

    def _succeeded(self, result: T) -> None:
        try:
            self.set_result(result)
        except InvalidStateError:
            self._tell_cancelled()

    def _failed(self, failure: Failure) -> None:
        if isinstance(failure.value, CancelledError):
            self._tell_cancelled()
            return
        try:
            self.set_exception(failure.value)
        except InvalidStateError:
            self._tell_cancelled()

    def _tell_cancelled(self) -> None:
        """Have those know it who wait for several futures."""
        if super().cancel():
            self.set_running_or_notify_cancel()

    def cancel(self) -> bool:
        """Take the wait back, unless it is over."""
        if not super().cancel():
            return False
        with suppress(Closed):
            self._bridge.submit(self._take_back)
        return True

    def _take_back(self) -> None:
        if self._deferred is not None:
            self._deferred.cancel()

    def result(self, timeout: float | None = None) -> T:
        """Return the result; raise `RuntimeError` in the reactor's thread if it is not there."""
        self._check()
        return super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return the error, likewise."""
        self._check()
        return super().exception(timeout)

    def _check(self) -> None:
        if not self.done():
            self._bridge.check_process()
            self._bridge.check()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a wait cannot be pickled")
