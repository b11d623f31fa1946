"""What test_real_mount runs in a mount namespace of its own: `python real_mounts.py WHAT FOLDER`.

It prints nothing and exits 0 where all is as it should be.
"""

from __future__ import annotations

import os
import random
import select
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from coord import Json, connect
from coord.clock import steady
from coord.mounts.agent import MountAgent
from coord.mounts.file import MountFile
from coord.mounts.mountinfo import parse, visible
from coord.mounts.selection import Selection
from coord.mounts.table import MountTable
from coord.testing import MemoryEndpoint, MemoryServer
from mounts.mount_fakes import latched


def run(*words: str | Path) -> None:
    """Run a command that must succeed."""
    subprocess.run(words, check=True)


class Follower:
    """A table that can be waited on."""

    def __init__(self, reactor: Any, table: Callable[..., MountTable] = MountTable) -> None:
        self.table = table(Path("/proc/self/mountinfo"), self._changed, lambda _: None, reactor)
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

    read = MountFile.read

    def read_and_mount(file: MountFile) -> bytes:
        text = read(file)
        if not spot.is_mount():
            run("mount", "-t", "tmpfs", "none", spot)
        return text

    follower = Follower(reactor)
    with mock.patch.object(MountFile, "read", read_and_mount):
        follower.table.open()
    await follower.until(lambda: os.fsencode(spot) in follower.table.mounts)
    follower.table.close()


class Host:
    """A map on a server in memory, and a node of it; `agent` announces there."""

    def __init__(self, reactor: Any) -> None:
        self.server = MemoryServer(steady(reactor))
        address: Any = MemoryEndpoint(self.server, reactor)
        self._node = connect(address, node="n1", reactor=reactor, heartbeat=0.2, timeout=5.0)
        self._reactor = reactor

    def agent(self, **options: Any) -> MountAgent:
        """Make an agent."""
        return MountAgent(self._node.events("mount"), "n1", reactor=self._reactor, **options)

    async def latched(self) -> dict[str, Json]:
        """Return what is latched."""
        return await latched(self._node.events("mount"))

    async def shows(self, *spots: Path, options: str = "") -> None:
        """Wait until these mount points are announced, with these options among others, and nothing else."""
        keys = {f"{prefix}{spot}" for spot in spots for prefix in ("", "n1:")}
        while (found := await self.latched()).keys() != keys or not all(options in str(v) for v in found.values()):
            await turn(self._reactor)

    def close(self) -> Deferred[None]:
        """Leave nothing behind."""
        return self._node.close()


async def agent(reactor: Any, folder: Path) -> None:
    """The agent announces a real mount and takes it back, woken by the kernel alone."""
    host = Host(reactor)
    agent = host.agent(selection=Selection([f"{folder}/*"]))
    await agent.start()
    assert agent.live
    follower = Follower(reactor)
    follower.table.open()
    spot = folder / "disk"
    spot.mkdir()
    run("mount", "-t", "tmpfs", "none", spot)
    await follower.until(lambda: os.fsencode(spot) in follower.table.mounts)
    await host.shows(spot)
    run("umount", spot)
    await host.shows()
    await agent.stop()
    await host.close()
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
    host, asked = Host(reactor), Host(reactor)
    agents = [
        host.agent(selection=Selection([f"{folder}/*"])),
        asked.agent(selection=Selection([f"{folder}/*"], types=["autofs"])),
    ]
    for agent in agents:
        await agent.start()
    assert await host.latched() == {}
    await asked.shows(spot)
    run("mount", "-t", "tmpfs", "none", spot)
    await host.shows(spot)
    await asked.shows()
    run("umount", spot)
    await host.shows()
    await asked.shows(spot)
    for agent in agents:
        await agent.stop()
    await host.close()
    await asked.close()
    os.close(reading)
    os.close(writing)


async def unsignalled(reactor: Any, folder: Path) -> None:
    """What changes without a signal of the kernel's is noticed at the next look."""
    host = Host(reactor)
    agent = host.agent(selection=Selection([f"{folder}/*"]), look_every=0.05)
    await agent.start()
    old, new = folder / "old" / "disk", folder / "new" / "disk"
    old.mkdir(parents=True)
    run("mount", "-t", "tmpfs", "none", old)
    # The folder above a mount point is renamed.
    await host.shows(old)
    old.parent.rename(new.parent)
    await host.shows(new)
    # The file system becomes read-only by itself, here by a remount in another namespace.
    elsewhere("mount", "-o", "remount,ro", new)
    await host.shows(new, options="'ro,")
    elsewhere("mount", "-o", "remount,rw,size=1m", new)
    await host.shows(new, options="size=1024k")
    # The mount point itself is renamed, where it is none.
    elsewhere("sh", "-c", f"umount {new} && mv {new} {new}2")
    await host.shows(Path(f"{new}2"))
    await agent.stop()
    await host.close()


async def signalled_after_a_look(reactor: Any, folder: Path) -> None:
    """The kernel's signals go on after the file was opened again."""
    looked: Deferred[None] = Deferred()

    class OneLook(MountTable):
        looks = 0

        def _look_later(self, began: float) -> None:
            self.looks += 1
            if self.looks == 1:
                super()._look_later(began)
            else:
                looked.callback(None)

    follower = Follower(reactor, partial(OneLook, look_every=0.0))
    follower.table.open()
    await looked
    spot = folder / "late"
    spot.mkdir()
    run("mount", "-t", "tmpfs", "none", spot)
    await follower.until(lambda: os.fsencode(spot) in follower.table.mounts)
    follower.table.close()


def elsewhere(*words: str | Path) -> None:
    """Run a command in a mount namespace of its own, of which nothing comes back."""
    run("unshare", "-m", "--propagation", "private", *words)


class Namespace:
    """A process with a mount namespace of its own, and in it a device that tells when it is free."""

    def __init__(self, folder: Path) -> None:
        self.spot = folder / "disk"
        self.spot.mkdir(exist_ok=True)
        # The pipe of an automounter is closed with its last mount.
        self._reading, writing = os.pipe()
        mount = f"mount -t autofs -o fd={writing},pgrp={os.getpgrp()},minproto=5,maxproto=5,direct none {self.spot}"
        script = f"{mount}; exec {writing}>&-; echo; exec sleep 1000"
        words = ["unshare", "-m", "sh", "-ec", script]
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, pass_fds=[writing])
        os.close(writing)
        assert self.process.stdout is not None
        self.process.stdout.readline()

    @property
    def free(self) -> bool:
        """Whether nothing uses the device any more."""
        return bool(select.select([self._reading], [], [], 0)[0]) and os.read(self._reading, 1) == b""

    def close(self) -> None:
        """Reap the process."""
        with self.process:
            os.close(self._reading)


async def process_ends(reactor: Any, folder: Path) -> None:
    """When the process of the table ends, its devices are free at once, and its mounts are withdrawn."""
    await follow_until_it_ends(reactor, Namespace(folder), look_every=3600.0)


async def process_is_gone(reactor: Any, folder: Path) -> None:
    """The same if only the next look can notice it: of a zombie, of a process that is gone, of a thread."""
    del os.pidfd_open
    await follow_until_it_ends(reactor, Namespace(folder), look_every=0.05)
    await follow_until_it_ends(reactor, Namespace(folder), look_every=0.05, reap=True)
    await follow_until_it_ends(reactor, Namespace(folder), look_every=0.05, reap=True, thread="task/{}/")


async def follow_until_it_ends(
    reactor: Any, namespace: Namespace, *, look_every: float, reap: bool = False, thread: str = ""
) -> None:
    """Follow the table of a process, and kill it while the server is away."""
    host, process, spot = Host(reactor), namespace.process, namespace.spot
    table = Path(f"/proc/{process.pid}/{thread.format(process.pid)}mountinfo")
    agent = host.agent(mountinfo=table, selection=Selection(types=["autofs"]), look_every=look_every)
    await agent.start()
    await host.shows(spot)
    host.server.hang()
    process.kill()
    if reap:
        process.wait()
    await until(reactor, lambda: namespace.free)
    assert not agent.ended.called
    host.server.resume()
    try:
        await agent.ended
    except ProcessLookupError:
        assert await host.latched() == {}
    await host.close()
    namespace.close()


async def process_ends_early(reactor: Any, folder: Path) -> None:
    """A process that ends before the server is there fails the start, once the server is there."""
    host, namespace = Host(reactor), Namespace(folder)
    host.server.stop()
    table = Path(f"/proc/{namespace.process.pid}/mountinfo")
    starting = host.agent(mountinfo=table).start()
    namespace.process.kill()
    await until(reactor, lambda: namespace.free)
    assert not starting.called
    host.server.start()
    try:
        await starting
    except ProcessLookupError:
        assert await host.latched() == {}
    await host.close()
    namespace.close()


async def another_pid_namespace(reactor: Any, folder: Path) -> None:
    """A number is not looked up in another PID namespace than that of the table."""
    look = "from coord.mounts.file import MountFile, Path; process = MountFile(Path('/proc/1/mountinfo')).process;"
    run("unshare", "--pid", "--fork", sys.executable, "-c", f"{look} assert process is None")
    run("unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", f"{look} assert process is not None")


async def another_namespace(reactor: Any, folder: Path) -> None:
    """A process that enters another mount namespace shows that one's mounts from the next look on."""
    before, after = folder / "before", folder / "after"
    before.mkdir()
    after.mkdir()
    enter = f"exec unshare -m sh -c 'umount {before}; mount -t tmpfs none {after}; exec cat'"
    script = ["unshare", "-m", "sh", "-ec", f"mount -t tmpfs none {before}; echo; read x; {enter}"]
    process = subprocess.Popen(script, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdout.readline()
    host, table = Host(reactor), Path(f"/proc/{process.pid}/mountinfo")
    agent = host.agent(mountinfo=table, selection=Selection([f"{folder}/*"]), look_every=0.05)
    await agent.start()
    await host.shows(before)
    process.stdin.write(b"\n")
    process.stdin.flush()
    await host.shows(after)
    await agent.stop()
    await host.close()
    process.communicate()


async def until(reactor: Any, condition: Callable[[], bool]) -> None:
    """Let the reactor go round until it holds."""
    while not condition():
        await turn(reactor)


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
    scenes = [
        wake,
        burst,
        opening,
        agent,
        placeholder,
        unsignalled,
        signalled_after_a_look,
        process_ends,
        process_is_gone,
        process_ends_early,
        another_pid_namespace,
        another_namespace,
        tree,
    ]
    (scene,) = [scene for scene in scenes if scene.__name__ == sys.argv[1]]
    react(lambda reactor: Deferred.fromCoroutine(scene(reactor, Path(sys.argv[2]))))
