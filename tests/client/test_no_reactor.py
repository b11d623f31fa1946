"""Programs that never run the reactor, or await under asyncio what only Twisted's reactor resolves: both are told."""

from __future__ import annotations

import subprocess
import sys

import pytest

_URL = "redis://127.0.0.1:1"


def _run(script: str) -> tuple[int, str]:
    """Return the status of a script, and what it said on stderr."""
    program = f"import asyncio, coord, os\nc = coord.connect({_URL!r})\nm = c.events('m')\n{script}"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ended.stdout == ""
    return ended.returncode, ended.stderr


@pytest.mark.parametrize(
    ("script", "what"),
    [
        ("m.fire('k')", "1 call"),
        ("m.fire('k'); m.pulse('k'); m['k']", "2 calls and 1 wait"),
        ("m['k']; m.wait('k', timeout=5)", "2 waits"),
        ("m.record('k')", "1 other request"),
        ("f = m.fire('k'); del c, m, f", "1 call"),
        ("if os.fork() == 0: raise SystemExit\nos.wait(); m.fire('k')", "1 call"),
    ],
)
def test_what_was_asked_and_never_sent(script: str, what: str) -> None:
    """At exit one line on stderr says what was not sent, why, and how to run the reactor."""
    status, said = _run(script)
    assert status == 0
    assert said == (
        f"coord: not sent to {_URL}, because Twisted's reactor never ran: {what}. "
        "Run it with twisted.internet.task.react(main)\n"
    )


_REACT = """
from twisted.internet import task
async def main(reactor):
    {0}
    await m.fire('k', timeout=0.01).addErrback(lambda failure: None)
task.react(main)
"""


@pytest.mark.parametrize(
    "script",
    [
        "",
        "m['k'].addErrback(lambda failure: None).cancel()",
        _REACT.format("m['k']"),
        "if os.fork() == 0:\n    m.fire('k').addErrback(lambda failure: None)\nelse:\n    os.wait()",
    ],
)
def test_nothing_is_said_otherwise(script: str) -> None:
    """Neither where nothing was asked, nor where the reactor has run, nor in the child of a fork."""
    assert _run(script) == (0, "")


_UNAWAITED = """
from twisted.internet import task
async def main(reactor):
    {0}
task.react(main)
"""


@pytest.mark.parametrize("before", ["", "await task.deferLater(reactor, 0.01)"])
def test_calls_that_were_not_awaited(before: str) -> None:
    """A program that ends while a call is under way is told, as the call may be lost; waits alone are no loss."""
    status, said = _run(_UNAWAITED.format(f"{before}\n    m.fire('k'); m['other']"))
    assert status == 0
    assert said == (
        f"coord: the program ended before {_URL} answered 1 call: await what a call returns, or close the coordinator\n"
    )
    assert _run(_UNAWAITED.format(f"{before}\n    m['other']")) == (0, "")


def test_no_node_is_kept_once_the_reactor_runs() -> None:
    """W5: what would be said at exit is settled then."""
    then = "\n    from coord.session import unsent\n    assert not unsent._early\ntask.react(main)"
    assert _run(_REACT.format("").replace("\ntask.react(main)", then)) == (0, "")


@pytest.mark.parametrize(
    ("script", "what"),
    [
        ("await m['abc']", "m/abc"),
        ("await m.wait('abc', timeout=1)", "m/abc"),
        ("await m.wait_all(['abc', 'd'])", "wait_all"),
        ("m['k']; await m.armed()", "armed"),
        ("await m.fire('abc')", "abc, fired"),
        ("await m.reset('abc')", "abc, reset"),
        ("await m.record('abc')", "query"),
        ("await m.records()", "query"),
        ("await c.maps()", "query"),
        ("async for page in m.pages(): pass", "query"),
        ("async with m.watch(): pass", "watch"),
        ("await c.connected()", "connected"),
        ("async with c: await m.fire('abc')", "abc, fired"),
    ],
)
def test_a_bare_await_under_asyncio(script: str, what: str) -> None:
    """Asyncio's error names what was awaited, and the door to take."""
    status, said = _run(f"async def main():\n    {script}\nasyncio.run(main())")
    assert status == 1
    (error,) = [line for line in said.splitlines() if line.startswith("RuntimeError")]
    assert f" {what}, pending" in error
    assert "under asyncio use coord.aio" in error
