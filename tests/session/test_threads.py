"""A node belongs to its reactor's thread: in any other, what it is asked for raises at once."""

from __future__ import annotations

import sys
from collections.abc import Callable
from threading import Thread
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.threads import blockingCallFromThread, deferToThread
from twisted.internet.utils import getProcessOutput

import coord
from coord import Coordinator, EventMap, LinkState
from coord.testing import Cluster as MemoryCluster
from support.cluster import Cluster, Seen
from support.waiting import turn

_blocking: Any = blockingCallFromThread  # its type takes no function with options

_ASKED: dict[str, Callable[[Coordinator, EventMap], Any]] = {
    "wait": lambda _, events: events["k"],
    "wait with a deadline": lambda _, events: events.wait("k", timeout=1),
    "wait_all": lambda _, events: events.wait_all(["k"]),
    "wait_all of nothing": lambda _, events: events.wait_all([]),
    "wait_any": lambda _, events: events.wait_any(["k"]),
    "armed": lambda _, events: events.armed(),
    "fire": lambda _, events: events.fire("k"),
    "fail": lambda _, events: events.fail("k", "reason"),
    "pulse": lambda _, events: events.pulse("k"),
    "reset": lambda _, events: events.reset("k"),
    "record": lambda _, events: events.record("k"),
    "records": lambda _, events: events.records(),
    "page": lambda _, events: events.page(),
    "pages": lambda _, events: events.pages(),
    "remove_foreign": lambda _, events: events.remove_foreign(),
    "subscribers": lambda _, events: events.subscribers([]),
    "watch": lambda _, events: events.watch(),
    "another map": lambda node, _: node.events("another"),
    "maps": lambda node, _: node.maps(),
    "connected": lambda node, _: node.connected(),
    "on_link": lambda node, _: node.on_link(lambda *_: None),
    "statistics": lambda node, _: node.statistics(),
    "execute": lambda node, _: node.execute("PING"),
    "add_cleanup": lambda node, _: node.add_cleanup(lambda: Deferred()),
    "close": lambda node, _: node.close(),
}


def _raised_in_thread(function: Callable[[], object]) -> BaseException | None:
    """Return what a function raises in a thread of its own."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            function()
        except BaseException as error:  # noqa: BLE001 - whatever it is, the test looks at it
            raised.append(error)

    thread = Thread(target=run)
    thread.start()
    thread.join()
    return raised[0] if raised else None


def _is_refusal(error: BaseException | None) -> bool:
    return isinstance(error, RuntimeError) and "twisted.internet.threads.blockingCallFromThread" in str(error)


@pytest.mark.servers("memory")
@pytest.mark.parametrize("name", _ASKED)
async def test_another_thread_is_refused(cluster: Cluster, name: str) -> None:
    """It raises at once, names the door to take, and leaves nothing behind."""
    node = await cluster.linked()
    events = node.events("m")
    error = _raised_in_thread(lambda: _ASKED[name](node, events))
    assert _is_refusal(error), error
    assert node.link is LinkState.CONNECTED
    assert node.statistics().waiters == node.statistics().pending_calls == 0


@pytest.mark.servers("memory")
async def test_to_go_on_in_another_thread_is_refused(cluster: Cluster) -> None:
    """A watch, pages, a hold and a service that were made in the reactor's thread can be used there alone."""
    events = await cluster.map()
    watch, pages = events.watch(since="start"), events.pages()
    service = coord.service(cluster.server.address())
    assert _is_refusal(_raised_in_thread(service.startService))
    with pytest.raises(RuntimeError, match="not running"):
        _ = service.coordinator
    service.startService()
    refused: Callable[[], object]
    for refused in (
        lambda: watch.__aenter__().send(None),
        lambda: pages.__anext__().send(None),
        service.stopService,
    ):
        assert _is_refusal(_raised_in_thread(refused))
    assert service.coordinator.link is not LinkState.CLOSED
    await service.stopService()
    async with watch as changes:
        assert _is_refusal(_raised_in_thread(lambda: changes.__anext__().send(None)))
    async with events.hold("k") as hold:
        for refused in (hold.lost, hold.withdraw, lambda: events.hold("k")):
            assert _is_refusal(_raised_in_thread(refused))


@pytest.mark.servers("memory")
async def test_the_named_door_leads_in(cluster: Cluster) -> None:
    """With blockingCallFromThread a thread fires and waits, and gets the errors."""
    node = await cluster.linked()

    def work() -> Any:
        events = _blocking(reactor, node.events, "m")
        applied = _blocking(reactor, events.fire, "k", 7)
        with pytest.raises(coord.TimedOut):
            _blocking(reactor, events.wait, "other", timeout=0.01)
        return applied.first, _blocking(reactor, events.wait, "k")

    assert await deferToThread(work) == (True, 7)


@pytest.mark.servers("memory")
async def test_to_cancel_in_another_thread_is_refused(cluster: Cluster) -> None:
    """The wait goes on, and can be cancelled in the reactor's thread."""
    events = await cluster.map()
    several: tuple[Deferred[Any], ...] = events.wait_any(["k"]), events.wait_all(["k"])
    pending = events["k"], events.wait("k", timeout=60), *several
    seen = Seen(*pending)
    for deferred in pending:
        assert _is_refusal(_raised_in_thread(deferred.cancel))
    assert seen.count == 0
    for deferred in pending:
        deferred.cancel()
    assert [type(error) for error in seen.errors] == [CancelledError] * 4


@pytest.mark.servers("memory")
async def test_to_connect_in_another_thread_is_refused(cluster: Cluster) -> None:
    """While the reactor runs in one thread, no other can make a node."""
    address = cluster.server.address()
    await turn()  # trial begins before it runs the reactor
    assert _is_refusal(_raised_in_thread(lambda: coord.connect(address)))
    assert await cluster.server.connections() == 0


_RUNS = {
    "reactor": "reactor.run(installSignalHandlers=False)",
    "asyncio": "loop.run_forever()",
}

_ELSEWHERE = """if True:
    import asyncio, sys, threading
    from twisted.internet import asyncioreactor

    loop = asyncio.new_event_loop()
    if sys.argv[2].startswith("loop"):
        asyncioreactor.install(loop)
    from twisted.internet import reactor, threads
    import coord

    node = coord.connect(sys.argv[1])
    events = node.events("m")
    early = events["k"]
    thread = threading.Thread(target=lambda: exec(sys.argv[2]), daemon=True)
    thread.start()
    print(threads.blockingCallFromThread(reactor, events.fire, "k", "fired").first)
    try:
        events["k"]
    except RuntimeError as error:
        print(error)
    print(threads.blockingCallFromThread(reactor, lambda: early))
    threads.blockingCallFromThread(reactor, node.close)
"""


@pytest.mark.servers("valkey")
@pytest.mark.parametrize("run", _RUNS.values(), ids=_RUNS)
async def test_a_reactor_that_runs_in_another_thread_than_connect(cluster: Cluster, run: str) -> None:
    """A node that was made before the reactor ran moves to its thread; the one that made it is refused then."""
    out = await getProcessOutput(sys.executable, ("-c", _ELSEWHERE, cluster.server.address(), run), errortoo=True)
    first, refused, early = out.decode().splitlines()
    assert (first, early) == ("True", "fired")
    assert "blockingCallFromThread" in refused


_EARLY = """if True:
    import sys, threading
    from twisted.internet import reactor
    import coord

    node = coord.connect(sys.argv[1])
    events = node.events("m")

    def early():
        try:
            events.fire("k", "early")
        except RuntimeError as error:
            print(error)

    thread = threading.Thread(target=early)
    thread.start()
    thread.join()
    print(threading.get_ident() == node._session.thread.ident)
"""


async def test_another_thread_is_refused_before_the_reactor_runs() -> None:
    """Until then a node belongs to the thread that made it."""
    out = await getProcessOutput(sys.executable, ("-c", _EARLY, "redis://127.0.0.1:1"), errortoo=True)
    refused, own = out.decode().splitlines()
    assert "blockingCallFromThread" in refused
    assert own == "True"


_FORKED = """if True:
    import os, sys, threading
    import coord

    events = coord.connect(sys.argv[1]).events("m")

    def fork():
        if os.fork() == 0:
            events["k"].addErrback(lambda failure: print(failure.value, flush=True))
            os._exit(0)
        os.wait()

    thread = threading.Thread(target=fork)
    thread.start()
    thread.join()
    os._exit(0)
"""


@pytest.mark.servers("valkey")
async def test_the_child_of_another_threads_fork(cluster: Cluster) -> None:
    """It is told that the node was made before the fork, and nothing of threads: it has only one."""
    out = await getProcessOutput(sys.executable, ("-c", _FORKED, cluster.server.address()), errortoo=True)
    assert out.decode() == "made before a fork: connect in the child\n"


def test_on_a_clock_it_is_the_thread_that_connects() -> None:
    """A task.Clock runs in no thread: the node belongs to the one that made it."""
    with MemoryCluster() as cluster:
        events = cluster.node("n").events("m")
        assert _is_refusal(_raised_in_thread(lambda: events.fire("k")))
        assert cluster.result(events.fire("k")).first
