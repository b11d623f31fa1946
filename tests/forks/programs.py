"""Programs that fork: ``python programs.py PROGRAM URL [REACTOR]``. Each process says what it saw, a line of JSON each.

A program is the body of the parent, which runs in the reactor unless it says otherwise.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from time import monotonic
from typing import Any

PROGRAM, URL, *REST = sys.argv[1:]

# Whatever goes wrong, no process is left behind.
signal.alarm(30)
os.register_at_fork(after_in_child=lambda: signal.alarm(30))

if REST and REST[0] != "epoll":
    if REST[0] == "asyncio":
        import asyncio

        asyncio.set_event_loop(asyncio.new_event_loop())
    import_module(f"twisted.internet.{REST[0]}reactor").install()

from twisted.internet import defer, task  # noqa: E402
from twisted.internet import reactor as _reactor  # noqa: E402

import coord  # noqa: E402

reactor: Any = _reactor
Deferred = defer.Deferred


def say(who: str, **what: Any) -> None:
    """Tell the test, in one write."""
    os.write(1, json.dumps({"who": who, **what}).encode() + b"\n")


def words(result: Any) -> str:
    """Say in a word how a Deferred ended."""
    value = getattr(result, "value", result)
    if isinstance(value, BaseException):
        return f"{type(value).__name__}: {value}"
    return "first" if getattr(value, "first", False) else repr(value)


def now(waiting: Any) -> str:
    """Return how it has ended by now."""
    seen: list[Any] = []
    waiting.addBoth(seen.append)
    return words(seen[0]) if seen else "pending"


async def ended(*waiting: Any) -> list[str]:
    """Return how each of these ended."""
    return [words(result) for _, result in await defer.DeferredList(list(waiting), consumeErrors=True)]


def run(body: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run the reactor for as long as ``body`` takes."""

    def over(failure: Any) -> None:
        if failure is not None:
            failure.printTraceback()
        if reactor.running:
            reactor.stop()

    reactor.callWhenRunning(lambda: Deferred.fromCoroutine(body()).addBoth(over))
    reactor.run()


async def gone(*children: int) -> None:
    """Return when these processes have ended."""
    left = set(children)
    while left:
        left = {child for child in left if os.waitpid(child, os.WNOHANG)[0] == 0}
        await task.deferLater(reactor, 0.01)


def fork(body: Callable[[], Coroutine[Any, Any, None]]) -> int:
    """Fork before the reactor runs; the child runs it for ``body``, and ends."""
    child = os.fork()
    if not child:
        run(body)
        leave()
    return child


def leave() -> None:
    """End a child as a program ends, with what is collected then, but without the parent's own last steps."""
    import gc

    gc.collect()
    sys.stderr.flush()
    os._exit(0)


class Parent:
    """A node with all that can be pending, and what it sees of it."""

    def __init__(self) -> None:
        self.node = coord.connect(URL, node="parent", heartbeat=0.5)
        self.events = self.node.events("m")
        self.states: list[str] = []
        self.node.on_link(lambda state, _: self.states.append(str(state)))
        self.changes: list[str] = []
        self.watch_end = ""

    async def arm(self) -> None:
        """Wait, armed; and watch."""
        await self.node.connected(timeout=10)
        self.armed = self.events["armed"]
        self.watching = Deferred.fromCoroutine(self._watch())
        await self.events.armed()

    async def _watch(self) -> None:
        try:
            async with self.events.watch(since="now") as changes:
                async for change in changes:
                    self.changes.append(getattr(change, "key", "caught up"))
        except coord.Error as error:
            self.watch_end = words(error)

    async def woken(self, *children: int) -> None:
        """Tell what the parent sees when its children have gone, and another node fires."""
        await gone(*children)
        answers = await ended(self.events.fire("of the parent"), self.events.fire("armed", 7))
        seen = await ended(self.armed.addTimeout(5, reactor))
        clients = await self.node.execute("CLIENT", "LIST")
        mine = sum(b"name=coord:parent" in line for line in clients.splitlines())
        say("parent", answers=answers, armed=seen, states=self.states, end=self.watch_end, clients=mine)
        await self.node.close()


async def _child_fires(name: str, events: coord.EventMap) -> None:
    keys = [f"{name}-{number}" for number in range(4)]
    say(name, keys=keys, answers=await ended(*[events.fire(key).addTimeout(8, reactor) for key in keys]))


async def _fires_anew(name: str) -> None:
    async with coord.connect(URL, node="child", heartbeat=0.5) as node:
        start = monotonic()
        await _child_fires(name, node.events("m"))
        say(f"{name} took", seconds=monotonic() - start)


def before_running() -> None:
    """Connect, fork twice, and have each of the three run its own reactor."""
    parent = Parent()

    async def in_child(name: str) -> None:
        await _child_fires(name, parent.events)

    children = [fork(partial(in_child, name)) for name in ("one", "two")]

    async def body() -> None:
        await parent.arm()
        await parent.woken(*children)

    run(body)


def anew() -> None:
    """The same, but each child connects."""
    parent = Parent()
    children = [fork(partial(_fires_anew, name)) for name in ("one", "two")]

    async def body() -> None:
        await parent.arm()
        await parent.woken(*children)

    run(body)


def preload() -> None:
    """Connect in a process that never runs a reactor; its children run it in a thread."""
    events = coord.connect(URL, node="parent").events("m")
    children = []
    for name in ("one", "two"):
        child = os.fork()
        if not child:
            thread = threading.Thread(target=lambda: reactor.run(installSignalHandlers=False))
            thread.start()

            async def body(name: str = name) -> None:
                await _child_fires(name, events)
                await _fires_anew(f"{name} anew")
                reactor.stop()

            reactor.callFromThread(lambda body=body: Deferred.fromCoroutine(body()))
            thread.join()
            leave()
        children.append(child)
    for child in children:
        os.waitpid(child, 0)
    leave()


def _in_running_child(parent: Parent, pending: dict[str, Any]) -> None:
    """Go on in the parent's reactor, and tell how what the child got from its parent ends."""

    async def body() -> None:
        names, waiting = list(pending), list(pending.values())
        how = dict(zip(names, await ended(*waiting), strict=True))
        new = {
            "wait": parent.events["new"],
            "fire": parent.events.fire("new"),
            "record": parent.events.record("new"),
            "connected": parent.node.connected(),
        }
        how |= dict(zip(new, await ended(*new.values()), strict=True))
        await parent.watching
        say("child", how=how, link=str(parent.node.link), reason=parent.node.reason, end=parent.watch_end)
        await parent.node.close()
        await _fires_anew("one")

    def over(failure: Any) -> None:
        if failure is not None:
            failure.printTraceback()
        leave()

    Deferred.fromCoroutine(body()).addBoth(over)


def while_running() -> None:
    """Fork inside a callback, with a link, an armed wait, an unsent call and a watch; the child goes on."""
    parent = Parent()
    away = coord.connect("redis://127.0.0.1:1", node="away")

    async def body() -> None:
        await parent.arm()
        # Nobody waits for these: the child says nothing of them.
        parent.events.fire("on its way")
        parent.events.fire_all({"on its way": 0})
        pending: dict[str, Any] = {
            "armed": parent.armed,
            "unarmed": parent.events["unarmed"],
            "call": parent.events.fire("on its way"),
            "calls": parent.events.fire_all({"on its way": 1}),
            "all": parent.events.wait_all(["a", "b"]),
            "late": parent.events.wait("late", timeout=100),
            "link": away.connected(timeout=100),
        }
        child = os.fork()
        if child:
            await pending["call"]
            await pending["calls"]
            for name in ("unarmed", "all", "late", "link"):
                pending[name].cancel()
                pending[name].addErrback(lambda _: None)
            await away.close()
            await parent.woken(child)
            return
        _in_running_child(parent, pending)
        await Deferred()

    run(body)


def grandchild() -> None:
    """A child that connects, and forks again."""
    parent = Parent()

    async def in_child() -> None:
        async with coord.connect(URL, node="child", heartbeat=0.5) as node:
            events = node.events("m")
            await _child_fires("one", events)
            waiting = events["of the child"]
            await events.armed()
            child = os.fork()
            if child:
                await gone(child)
                await events.fire("of the child")
                say("child", woken=await ended(waiting.addTimeout(5, reactor)))
                return
            await _child_fires("two", events)
            await _fires_anew("two anew")
            leave()

    child = fork(in_child)

    async def body() -> None:
        await parent.arm()
        await parent.woken(child)

    run(body)


def _sockets() -> set[str]:
    """Return the sockets that this process has."""
    links = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            links.add(str(descriptor.readlink()))
    return {link for link in links if link.startswith("socket:")}


def _target(parent: Parent, theirs: set[str]) -> None:
    """Do what a child of multiprocessing does, nothing with the reactor; tell how many sockets it shares."""
    say(
        "child",
        link=str(parent.node.link),
        wait=now(parent.events["x"]),
        armed=parent.armed.called,
        shared=len(theirs & _sockets()),
    )


def processes() -> None:
    """Fork by multiprocessing, in a callback."""
    parent = Parent()

    async def body() -> None:
        await parent.arm()
        child = multiprocessing.get_context("fork").Process(target=_target, args=(parent, _sockets()))
        child.start()
        while child.is_alive():
            await task.deferLater(reactor, 0.01)
        child.join()
        await parent.woken()

    run(body)


def in_a_thread() -> None:
    """Fork in a thread, while the reactor runs in another."""
    parent = Parent()

    def forking() -> int:
        sockets = _sockets()
        child = os.fork()
        if not child:
            _target(parent, sockets)
            leave()
        return child

    async def body() -> None:
        from twisted.internet.threads import deferToThread

        await parent.arm()
        children = [await deferToThread(forking) for _ in range(3)]
        await parent.woken(*children)

    run(body)


def _nothing() -> None:
    pass


def other_programs() -> None:
    """Run other programs in all ways that there are."""
    from twisted.internet.utils import getProcessValue

    parent = Parent()

    async def body() -> None:
        await parent.arm()
        subprocess.run(["true"], check=True)
        subprocess.run(["true"], check=True, preexec_fn=_nothing)
        os.system("true")
        await getProcessValue("/bin/true")
        await getProcessValue("/bin/true", path="/")
        await parent.woken()

    run(body)


def unknown_to_python() -> None:
    """Fork as a library does that is not Python's: no hook of Python's is called. The child goes on in the reactor."""
    import ctypes

    parent = Parent()

    async def body() -> None:
        await parent.arm()
        children = []
        for name in ("one", "two"):
            child = ctypes.PyDLL(None).fork()
            if not child:
                signal.alarm(30)
                await _child_fires(name, parent.events)
                leave()
            children.append(child)
        await parent.woken(*children)

    run(body)


if __name__ == "__main__":
    globals()[PROGRAM]()
