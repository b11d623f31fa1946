"""A clock over a fork: the parent's goes on, and the child has one of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import os
from twisted.internet.{kind}reactor import install
install()
from twisted.internet import reactor
from twisted.internet.task import deferLater
from coord.clock import steady
import coord.link.forks

said = []
clock = steady(reactor)
clock.callLater(0.3, lambda: (said.append("timer"), reactor.stop()))
clock.callLater(100, print)
inherited = [each.fileno() for each in reactor.getReaders() if "clock" in each.logPrefix()]
assert len(inherited) == 1, inherited
child = os.fork()
if not child:
    try:
        os.fstat(inherited[0])
    except OSError:
        os._exit(7)
    os._exit(1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
reactor.run()
print(said)
"""

IN_THE_CHILD = """
import os
from twisted.internet.selectreactor import SelectReactor
from coord.clock import steady
import coord.link.forks

parent = SelectReactor()
pending = steady(parent).callLater(100, print)
child = os.fork()
if not child:
    reactor = SelectReactor()
    # Also under the one that was inherited, the clock is the child's own from now on.
    steady(parent).callLater(0.01, parent.crash)
    parent.run(installSignalHandlers=False)
    steady(reactor).callLater(0.01, reactor.crash)
    reactor.run(installSignalHandlers=False)
    os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
assert pending.active()
steady(parent).callLater(0.01, parent.crash)
parent.run(installSignalHandlers=False)
print("went on")
"""


def _run(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("kind", ["epoll", "select", "poll", "asyncio"])
def test_the_parent_notices_nothing(kind: str) -> None:
    """The child closes what it inherited, and the parent's timer ends all the same."""
    assert _run(PROGRAM.format(kind=kind)) == "['timer']"


def test_the_child_has_its_own() -> None:
    """It keeps time under a reactor of its own and under the inherited one, and so does the parent."""
    assert _run(IN_THE_CHILD) == "went on"
