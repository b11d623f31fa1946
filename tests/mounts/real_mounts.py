"""What test_real_mount runs in a mount namespace of its own: `python real_mounts.py WHAT FOLDER`.

It prints nothing and exits 0 where all is as it should be.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from coord.mounts.agent import MountAgent
from coord.mounts.mountinfo import parse, visible
from coord.mounts.selection import Selection
from coord.mounts.table import MountTable
from mounts.mount_fakes import Server


def run(*words: str | Path) -> None:
    """Run a command that must succeed."""
    subprocess.run(words, check=True)


class Follower:
    """A table that can be waited on."""

    def __init__(self, reactor: Any, table: type[MountTable] = MountTable) -> None:
        self.table = table(Path("/proc/self/mountinfo"), self._changed, reactor)
        self.wakes = 0
        self._condition: Callable[[], bool] = lambda: True
        self._met: Deferred[None] | None = None

    def until(self, condition: Callable[[], bool]) -> Deferred[None]:
        """Wait until it holds, looking only when the table says that it changed."""
        self._condition = condition
        self._met = Deferred()
        if condition():
            self._met.callback(None)
        return self._met

    def _changed(self) -> None:
        self.wakes += 1
        if self._met is not None and not self._met.called and self._condition():
            self._met.callback(None)


async def wake(reactor: Any, folder: Path) -> None:
    """The reactor hears of each mount, move and unmount, and of nothing when nothing happens."""
    follower = Follower(reactor)
    table = follower.table
    table.open()
    assert table.live
    here, there = folder / "a b", folder / "moved"
    here.mkdir()
    there.mkdir()
    for _ in range(50):
        run("mount", "-t", "tmpfs", "-o", "size=1m", "coord-test", here)
        await follower.until(lambda: os.fsencode(here) in table.mounts)
        assert table.mounts[os.fsencode(here)].source == "coord-test"
        run("mount", "--move", here, there)
        await follower.until(lambda: os.fsencode(there) in table.mounts)
        assert os.fsencode(here) not in table.mounts
        run("umount", there)
        await follower.until(lambda: os.fsencode(there) not in table.mounts)
    assert follower.wakes == 150
    table.close()
    assert reactor.getReaders() == [] or table not in reactor.getReaders()


async def burst(reactor: Any, folder: Path) -> None:
    """Many mounts at once end in a complete table: no wake-up is lost."""
    follower = Follower(reactor)
    follower.table.open()
    spots = [folder / str(number) for number in range(300)]
    for spot in spots:
        spot.mkdir()
    mounting = "".join(f"mount -t tmpfs none '{spot}'\n" for spot in spots)
    script = subprocess.Popen(["sh", "-e"], stdin=subprocess.PIPE)
    assert script.stdin is not None
    script.stdin.write(mounting.encode())
    script.stdin.close()
    await follower.until(lambda: follower.table.mounts.keys() >= {os.fsencode(s) for s in spots})
    assert script.wait() == 0
    follower.table.close()


async def opening(reactor: Any, folder: Path) -> None:
    """What is mounted while the table is read for the first time is not missed."""
    spot = folder / "early"
    spot.mkdir()

    class Interrupted(MountTable):
        def _read_once(self) -> bytes:
            table = super()._read_once()
            if not spot.is_mount():
                run("mount", "-t", "tmpfs", "none", spot)
            return table

    follower = Follower(reactor, Interrupted)
    follower.table.open()
    await follower.until(lambda: os.fsencode(spot) in follower.table.mounts)
    follower.table.close()


async def agent(reactor: Any, folder: Path) -> None:
    """The agent announces a real mount and takes it back, woken by the kernel alone."""
    server = Server()
    agent = MountAgent(server.events("n1"), "n1", selection=Selection([f"{folder}/*"]), reactor=reactor)
    await agent.start()
    assert agent.live
    follower = Follower(reactor)
    follower.table.open()
    spot = folder / "disk"
    spot.mkdir()
    run("mount", "-t", "tmpfs", "none", spot)
    await follower.until(lambda: os.fsencode(spot) in follower.table.mounts)
    while not server.latched():
        await turn(reactor)
    assert server.latched().keys() == {str(spot), f"n1:{spot}"}
    run("umount", spot)
    while server.latched():
        await turn(reactor)
    await agent.stop()
    follower.table.close()


def turn(reactor: Any) -> Deferred[None]:
    """Let the reactor go round once."""
    turned: Deferred[None] = Deferred()
    reactor.callLater(0, turned.callback, None)
    return turned


async def placeholder(reactor: Any, folder: Path) -> None:
    """An automount point is not announced, the disk that is mounted on it is."""
    spot = folder / "disk"
    spot.mkdir()
    reading, writing = os.pipe()
    # Mounts by the group of the automounter, which is ours, trigger nothing.
    options = f"fd={writing},pgrp={os.getpgrp()},minproto=5,maxproto=5,direct"
    subprocess.run(["mount", "-t", "autofs", "-o", options, "coord-test", spot], check=True, pass_fds=[writing])
    server, asked = Server(), Server()
    agents = [
        MountAgent(server.events("n1"), "n1", selection=Selection([f"{folder}/*"]), reactor=reactor),
        MountAgent(asked.events("n1"), "n1", selection=Selection(types=["autofs"]), reactor=reactor),
    ]
    for agent in agents:
        await agent.start()
    assert server.latched() == {}
    assert str(spot) in asked.latched()
    run("mount", "-t", "tmpfs", "none", spot)
    while str(spot) not in server.latched() or asked.latched():
        await turn(reactor)
    run("umount", spot)
    while server.latched() or not asked.latched():
        await turn(reactor)
    for agent in agents:
        await agent.stop()
    os.close(reading)
    os.close(writing)


async def tree(reactor: Any, folder: Path) -> None:
    """What is visible is what the kernel finds at the end of each path, after any operations."""
    for seed in range(6):
        base = folder / str(seed)
        base.mkdir()
        run("mount", "-t", "tmpfs", "base", base)
        run("mount", "--make-private", base)
        random_operations(random.Random(seed), base)
        check_against_the_kernel(base)


def random_operations(dice: random.Random, base: Path) -> None:
    """Mount, bind, move and unmount at random; what the kernel refuses is left out."""
    spots = [base / up / down for up in ("a", "b", "c") for down in ("", "x", "x/y")]
    for _ in range(60):
        spot, other = dice.choice(spots), dice.choice(spots)
        command: list[str | Path] = dice.choice(
            [
                ["mount", "-t", "tmpfs", "none", spot],
                ["mount", "-t", "tmpfs", "none", spot],
                ["mount", "--bind", other, spot],
                ["mount", "--rbind", other, spot],
                ["mount", "--move", other, spot],
                ["umount", spot],
            ]
        )
        spot.mkdir(parents=True, exist_ok=True)
        other.mkdir(parents=True, exist_ok=True)
        subprocess.run(command, capture_output=True, check=False)


def check_against_the_kernel(base: Path) -> None:
    """Compare, at each mount point below the base, the mount that the table and the kernel name."""
    mounts, broken = parse(Path("/proc/self/mountinfo").read_bytes())
    assert not broken
    top = visible(mounts)
    ours = {mount.target for mount in mounts if mount.target.startswith(os.fsencode(base))}
    assert len(ours) > 3
    for target in sorted(ours):
        kernels = mount_at(target)
        if target in top:
            assert kernels == top[target].id, (target, kernels, top[target])
        else:
            # Hidden: the path leads elsewhere, or nowhere.
            assert kernels not in {mount.id for mount in mounts if mount.target == target}, target


def mount_at(path: bytes) -> int | None:
    """Answer the number of the mount that a path leads into; None where it leads nowhere."""
    try:
        handle = os.open(path, os.O_PATH)
    except FileNotFoundError:
        return None
    try:
        facts = Path(f"/proc/self/fdinfo/{handle}").read_text()
    finally:
        os.close(handle)
    return int(facts.partition("mnt_id:")[2].split()[0])


if __name__ == "__main__":
    scenes = [wake, burst, opening, agent, placeholder, tree]
    (scene,) = [scene for scene in scenes if scene.__name__ == sys.argv[1]]
    react(lambda reactor: Deferred.fromCoroutine(scene(reactor, Path(sys.argv[2]))))
