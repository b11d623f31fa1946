"""Forks: in the child of one, whatever was made before it is the parent's alone.

Two processes that go on as one node would share its numbers: the server takes the second one's calls for repetitions
of the first one's, and acknowledges what it never applied (F1, F2). So the child's copies are ended. What they hold is
given up without a word to anybody outside: a descriptor is closed and nothing more, since a goodbye, a shutdown or a
descriptor taken out of an epoll instance that both share would be the parent's.
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
    """What must not live in two processes."""

    def forked(self) -> None:
        """Give up what is the parent's. No code of a user's may run here: the child may be about to become CMD."""


class _Process:
    """What is known of the present process."""

    number = os.getpid()
    is_child = False
    made: ClassVar[WeakSet[Inherited]] = WeakSet()
    reactors: ClassVar[WeakSet[Any]] = WeakSet()


def track(thing: Inherited) -> None:
    """Have ``forked`` called in the child of a fork, if it is still there then."""
    _Process.made.add(thing)


def check_fork() -> None:
    """Notice a fork that Python was not told of (one made by a library in C)."""
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
    # os.fork, multiprocessing and subprocess with a preexec_fn call it; what only starts another program does not.
    os.register_at_fork(after_in_child=_in_child)


def close_descriptor(transport: Any) -> None:
    """Close a connection that the parent goes on using: its descriptor in this process, and nothing else."""
    while transport is not None and not isinstance(transport, FileDescriptor):
        # TLS and the like stand around the socket.
        transport = getattr(transport, "transport", None)
    descriptor: Any = transport
    if descriptor is not None and getattr(descriptor, "socket", None) is not None:
        detach(descriptor.reactor)
        descriptor.stopReading()
        descriptor.stopWriting()
        # What Twisted may still want to do to it, it does to connected ones.
        descriptor.connected = False
        descriptor.socket.close()


def detach(reactor: Any) -> None:
    """Have a reactor that came from the parent share nothing with it; call this before it is used in a child.

    Twisted has no word for this. An epoll instance is one for all processes that have it: what one takes out of it, the
    others are not told of any more, and each gets events of the others'. A pipe that wakes a reactor wakes the wrong
    one. Both are replaced under their numbers, so that nobody has to learn of it.
    """
    if isinstance(reactor, SteadyClock):
        reactor = reactor.reactor
    if not _Process.is_child or reactor in _Process.reactors:
        return
    _Process.reactors.add(reactor)
    loop = getattr(reactor, "_asyncioEventloop", None)
    for waker in getattr(reactor, "_internalReaders", ()):
        # Twisted's pipes for what comes from threads and signals.
        if isinstance(getattr(waker, "i", None), int) and isinstance(getattr(waker, "o", None), int):
            _replace((waker.i, waker.o), os.pipe())
    if loop is None:
        _detach_poller(getattr(reactor, "_poller", None), lambda: _watched_by_twisted(reactor))
    else:
        _detach_loop(loop)


def _detach_loop(loop: Any) -> None:
    """Do the same for asyncio's own loop, below Twisted's reactor."""
    woken, wakes = getattr(loop, "_ssock", None), getattr(loop, "_csock", None)
    if woken is not None and wakes is not None:
        ends = socket.socketpair()
        _replace((woken.fileno(), wakes.fileno()), (ends[0].detach(), ends[1].detach()))
    selector = getattr(loop, "_selector", None)
    _detach_poller(getattr(selector, "_selector", None), lambda: _watched_by_asyncio(selector))


def _detach_poller(poller: Any, watched: Callable[[], Iterator[tuple[int, int]]]) -> None:
    if poller is None or not hasattr(select, "epoll") or not isinstance(poller, select.epoll):
        # select and poll keep what they watch in the process.
        return
    with select.epoll() as fresh:
        os.dup2(fresh.fileno(), poller.fileno(), inheritable=False)
    for descriptor, events in watched():
        # One that was closed and not taken out was not watched any more in the parent either.
        with suppress(OSError):
            poller.register(descriptor, events)


def _replace(old: tuple[int, int], new: tuple[int, int]) -> None:
    """Have each of the old descriptors be what the new one is."""
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
