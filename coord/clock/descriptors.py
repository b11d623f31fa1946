"""Descriptors that wake a reactor without the reactor's own timers.

All use `now`, which never steps and keeps counting while the machine sleeps.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from math import inf
from struct import Struct
from threading import Thread
from typing import Any, Final, Protocol

from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

__all__ = ["CLOCK", "Pipe", "ThreadTimer", "Timer", "TimerFd", "now", "timer_of"]

# Linux; macOS, where time.monotonic() stands still while the machine sleeps; others.
CLOCK: Final[int] = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC_RAW", time.CLOCK_MONOTONIC))
now: Final = partial(time.clock_gettime, CLOCK)

_NEVER: Final = 1e9
"""Thirty years in seconds: fits the C types of every platform."""

_TIME: Final = Struct("d")
_LOOK_AGAIN: Final = 5.0
"""Seconds after which a thread checks again: its timeout may not count while the machine sleeps."""


class Timer(Protocol):
    """Makes the reactor call a function at a set time."""

    def set(self, at: float) -> None:
        """Wake the reactor at this time, and no longer at an earlier setting."""

    def close(self, *, inherited: bool = False) -> None:
        """Close the descriptors; ``inherited``: in the child of a fork, where no thread is left."""


@implementer(IReadDescriptor)
class _Reader:
    """A descriptor that the reactor watches.

    :param ready: called when it can be read.
    :param lost: called when the reactor lets go of it, as it does when it stops.
    """

    def __init__(self, reactor: Any, fds: tuple[int, ...], ready: Callable[[], None], lost: Callable[[], None]) -> None:
        self._reactor = reactor
        self._fds = fds
        self._ready = ready
        self._lost = lost
        try:
            reactor.addReader(self)
        except BaseException:
            _close(fds)
            raise

    def fileno(self) -> int:
        return self._fds[0]

    def logPrefix(self) -> str:
        return "coord's clock"

    def doRead(self) -> None:
        with suppress(BlockingIOError):
            os.read(self.fileno(), 4096)
        self._ready()

    def connectionLost(self, reason: Failure) -> None:  # noqa: ARG002 - Twisted's
        self._lost()

    def close(self, *, inherited: bool = False) -> None:  # noqa: ARG002 - see Timer
        self._reactor.removeReader(self)
        _close(self._fds)


class Pipe(_Reader):
    """Makes the reactor call ``ready`` in its next iteration, independent of its clock."""

    def __init__(self, reactor: Any, ready: Callable[[], None], lost: Callable[[], None]) -> None:
        read_end, self._write_end = fds = os.pipe()
        for fd in fds:
            os.set_blocking(fd, False)
        super().__init__(reactor, (read_end, self._write_end), ready, lost)

    def signal(self) -> None:
        """Wake the reactor; any thread may call this."""
        # A pipe that is full wakes the reactor as well.
        with suppress(BlockingIOError):
            os.write(self._write_end, b"\0")


class TimerFd(_Reader):
    """A timerfd of Linux; raises `OSError` if the system has none."""

    def __init__(self, reactor: Any, ready: Callable[[], None], lost: Callable[[], None]) -> None:
        create, self._settime = _functions()
        # struct itimerspec: interval and first expiry, each in seconds and nanoseconds.
        self._spec = _array()
        super().__init__(reactor, (create(CLOCK, os.O_NONBLOCK | os.O_CLOEXEC),), ready, lost)

    def set(self, at: float) -> None:  # noqa: D102 - see Timer
        # Relative, and a microsecond late rather than early: a float is no more precise.
        left = min(max(at - now(), 0.0), _NEVER)
        self._spec[2:] = divmod(int(left * 1e9) + 1000, 1_000_000_000)
        self._settime(self.fileno(), 0, self._spec, None)


class ThreadTimer:
    """A thread that waits, for systems without a timer that a reactor can watch.

    :param ring: called in the thread when the time is up.
    """

    def __init__(self, ring: Callable[[], None]) -> None:
        # Times go through the pipe, and closing it ends the thread, so that the two share no state.
        self._fds = os.pipe()
        self._thread = Thread(target=_wait, args=(self._fds[0], ring), name="coord's clock", daemon=True)
        self._thread.start()

    def set(self, at: float) -> None:  # noqa: D102 - see Timer
        os.write(self._fds[1], _TIME.pack(at))

    def close(self, *, inherited: bool = False) -> None:  # noqa: D102 - see Timer
        os.close(self._fds[1])
        if not inherited:
            self._thread.join()
        os.close(self._fds[0])


def timer_of(reactor: Any, ready: Callable[[], None], lost: Callable[[], None], pipe: Callable[[], Pipe]) -> Timer:
    """Return the system's best timer: it calls ``ready`` in the reactor, or rings a pipe in a thread of its own."""
    try:
        return TimerFd(reactor, ready, lost)
    except (AttributeError, ImportError, OSError):
        # Another system, a Python without ctypes, or a sandbox that refuses.
        return ThreadTimer(pipe().signal)


def _wait(fd: int, ring: Callable[[], None]) -> None:
    at = inf
    while True:
        left = at - now()
        if left <= 0:
            at = inf
            ring()
            continue
        if select.select([fd], [], [], min(left, _LOOK_AGAIN) if at < inf else None)[0]:
            told = os.read(fd, 64 * _TIME.size)
            if not told:
                return
            (at,) = _TIME.unpack(told[-_TIME.size :])


@cache
def _functions() -> tuple[Any, Any]:
    """Return timerfd_create and timerfd_settime, which Python itself has from 3.13 on."""
    import ctypes

    libc: Any = ctypes.CDLL(None, use_errno=True)
    create, settime = libc.timerfd_create, libc.timerfd_settime
    create.argtypes = (ctypes.c_int, ctypes.c_int)
    settime.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.POINTER(ctypes.c_long), ctypes.c_void_p)
    create.errcheck = settime.errcheck = _checked
    return create, settime


def _checked(result: int, function: Any, _: object) -> int:
    if result < 0:
        import ctypes

        number = ctypes.get_errno()
        raise OSError(number, f"{function.__name__}: {os.strerror(number)}")
    return result


def _array() -> Any:
    import ctypes

    return (ctypes.c_long * 4)()


def _close(fds: tuple[int, ...]) -> None:
    for fd in fds:
        os.close(fd)
