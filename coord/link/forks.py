"""Forks: in the child, everything made before the fork belongs to the parent alone.

Two processes that go on as one node would share its numbers: the server would take the calls of one for repetitions of
the other's, and acknowledge calls that it never applied (F1, F2). So the child's copies are closed, without any effect
outside: only file descriptors are closed. A QUIT, a shutdown, or removing a descriptor from a shared epoll instance
would affect the parent.
"""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from selectors import EVENT_READ, EVENT_WRITE
from typing import Any, ClassVar, Final, Protocol
from weakref import WeakSet

from twisted.internet.abstract import FileDescriptor

from coord.clock import SteadyClock, forget_inherited

__all__ = ["MADE_BEFORE", "check_fork", "close_descriptor", "detach", "track"]

MADE_BEFORE: Final = "made before a fork: connect in the child"


class Inherited(Protocol):
    """An object that must not live in two processes."""

    def forked(self) -> None:
        """Give up what belongs to the parent. Users' code must not run here: the child may be about to exec."""


class _Process:
    """The state of the present process."""

    number = os.getpid()
    is_child = False
    made: ClassVar[WeakSet[Inherited]] = WeakSet()
    reactors: ClassVar[WeakSet[Any]] = WeakSet()


def track(thing: Inherited) -> None:
    """Call ``forked`` in the child of a fork, if the object still exists then."""
    _Process.made.add(thing)


def check_fork() -> None:
    """Detect a fork that Python has not noticed (made by a C library)."""
    if os.getpid() != _Process.number:
        _in_child()


def _in_child() -> None:
    made = list(_Process.made)
    _Process.number, _Process.is_child = os.getpid(), True
    _Process.made, _Process.reactors = WeakSet(), WeakSet()
    forget_inherited(detach)
    for thing in made:
        thing.forked()


if hasattr(os, "register_at_fork"):
    # os.fork, multiprocessing and subprocess with a preexec_fn call it; starting another program does not.
    os.register_at_fork(after_in_child=_in_child)


def close_descriptor(transport: Any) -> None:
    """Close this process's descriptor of a connection, without any effect on the parent."""
    while transport is not None and not isinstance(transport, FileDescriptor):
        # TLS and others wrap the socket.
        transport = getattr(transport, "transport", None)
    descriptor: Any = transport
    if descriptor is not None and getattr(descriptor, "socket", None) is not None:
        detach(descriptor.reactor)
        descriptor.stopReading()
        descriptor.stopWriting()
        # Twisted does nothing more to one that is not connected.
        descriptor.connected = False
        descriptor.socket.close()


def detach(reactor: Any) -> None:
    """Make an inherited reactor share nothing with the parent; call this before a child uses it.

    Twisted has no API for this. An epoll instance is shared by all processes that inherit it: a descriptor removed by
    one is removed for all, and each gets events of the others. A pipe that wakes the reactor would wake the wrong one.
    Both are replaced under their descriptor numbers, so that the reactor need not know.
    """
    if isinstance(reactor, SteadyClock):
        reactor = reactor.reactor
    if not _Process.is_child or reactor in _Process.reactors:
        return
    _Process.reactors.add(reactor)
    loop = getattr(reactor, "_asyncioEventloop", None)
    for waker in getattr(reactor, "_internalReaders", ()):
        # Twisted's pipes for threads and signals.
        if isinstance(getattr(waker, "i", None), int) and isinstance(getattr(waker, "o", None), int):
            _replace((waker.i, waker.o), os.pipe())
    if loop is None:
        _detach_poller(getattr(reactor, "_poller", None), lambda: _watched_by_twisted(reactor))
    else:
        _detach_loop(loop)


def _detach_loop(loop: Any) -> None:
    """Do the same for asyncio's loop, under Twisted's reactor."""
    woken, wakes = getattr(loop, "_ssock", None), getattr(loop, "_csock", None)
    if woken is not None and wakes is not None:
        ends = socket.socketpair()
        _replace((woken.fileno(), wakes.fileno()), (ends[0].detach(), ends[1].detach()))
    selector = getattr(loop, "_selector", None)
    _detach_poller(getattr(selector, "_selector", None), lambda: _watched_by_asyncio(selector))


def _detach_poller(poller: Any, watched: Callable[[], Iterator[tuple[int, int]]]) -> None:
    if poller is None or not hasattr(select, "epoll") or not isinstance(poller, select.epoll):
        # select and poll keep their descriptors in the process.
        return
    with select.epoll() as fresh:
        os.dup2(fresh.fileno(), poller.fileno(), inheritable=False)
    for descriptor, events in watched():
        # A closed descriptor was not watched in the parent either.
        with suppress(OSError):
            poller.register(descriptor, events)


def _replace(old: tuple[int, int], new: tuple[int, int]) -> None:
    """Replace each of the old descriptors by the new one."""
    for number, fresh in zip(old, new, strict=True):
        os.dup2(fresh, number, inheritable=False)
        os.close(fresh)
        os.set_blocking(number, False)


def _watched_by_twisted(reactor: Any) -> Iterator[tuple[int, int]]:
    for descriptor in reactor._reads | reactor._writes:
        events = select.EPOLLIN if descriptor in reactor._reads else 0
        yield descriptor, events | (select.EPOLLOUT if descriptor in reactor._writes else 0)


def _watched_by_asyncio(selector: Any) -> Iterator[tuple[int, int]]:
    for descriptor, key in selector.get_map().items():
        events = select.EPOLLIN if key.events & EVENT_READ else 0
        yield descriptor, events | (select.EPOLLOUT if key.events & EVENT_WRITE else 0)
