"""A network of hosts on this machine: network namespaces, joined by a bridge that is in one of its own.

No packet leaves the machine. It needs root and iproute2; `Network.missing` says what is not there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Final

__all__ = ["Network"]

_PREFIX: Final = "coordf"
_NOBODY: Final = "02:00:00:00:de:ad"
"""A hardware address that no host has: what goes there is lost, and nobody is told."""


class Network:
    """Hosts by name, the first of them ``server``; each verb takes effect at once."""

    def __init__(self, hosts: list[str]) -> None:
        self._hosts = hosts
        self._name = f"{_PREFIX}-{os.getpid()}"

    @staticmethod
    @cache
    def missing() -> str | None:
        """Return why there can be no such network here, or nothing."""
        if os.geteuid():
            return "network namespaces need root"
        absent = [program for program in ("ip", "bridge") if shutil.which(program) is None]
        if absent:
            return f"{absent[0]} of iproute2 is not installed"
        probe = f"{_PREFIX}-{os.getpid()}-probe"
        made = subprocess.run(["ip", "netns", "add", probe], capture_output=True, text=True, check=False)
        if made.returncode:
            return f"no network namespaces here: {made.stderr.strip()}"
        _run("ip", "netns", "del", probe)
        return None

    def up(self) -> None:
        """Make the hosts; those that a killed run has left are removed."""
        _sweep()
        switch = self._namespace("switch")
        _run("ip", "netns", "add", switch)
        _batch(
            switch,
            "link set lo up",
            "link add br0 type bridge forward_delay 0 stp_state 0",
            "link set br0 up",
        )
        for index, host in enumerate(self._hosts):
            _run("ip", "netns", "add", self._namespace(host))
            _batch(
                switch,
                f"link add p{index} type veth peer name eth0 netns {self._namespace(host)}",
                f"link set p{index} master br0 up",
            )
            _batch(
                self._namespace(host),
                "link set lo up",
                f"addr add {self.address(host)}/24 dev eth0",
                "link set eth0 up",
            )

    def down(self) -> None:
        """Remove the hosts; processes on them lose their network."""
        for host in ("switch", *self._hosts):
            subprocess.run(["ip", "netns", "del", self._namespace(host)], capture_output=True, check=False)

    def address(self, host: str) -> str:
        """Return a host's address."""
        return f"10.77.0.{10 + self._hosts.index(host)}"

    def on(self, host: str) -> list[str]:
        """Return the words that run a command on a host."""
        return ["ip", "netns", "exec", self._namespace(host)]

    def isolate(self, host: str) -> None:
        """Cut a host off: nothing arrives, nothing leaves, and it is not told."""
        self._forwarding(host, "0")

    def one_way(self, sender: str, receiver: str) -> None:
        """Lose what goes from one host to another; the other way stays open."""
        _batch(
            self._namespace(sender),
            f"neigh replace {self.address(receiver)} lladdr {_NOBODY} dev eth0 nud permanent",
        )

    def heal(self) -> None:
        """Undo all of this."""
        for host in self._hosts:
            self._forwarding(host, "3")
            _batch(self._namespace(host), "neigh flush all nud permanent", "neigh flush all")

    def _forwarding(self, host: str, state: str) -> None:
        port = f"p{self._hosts.index(host)}"
        _run("ip", "netns", "exec", self._namespace("switch"), "bridge", "link", "set", "dev", port, "state", state)

    def _namespace(self, host: str) -> str:
        return f"{self._name}-{host}"


def _run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True)


def _batch(namespace: str, *lines: str) -> None:
    text = "\n".join(lines) + "\n"
    subprocess.run(["ip", "-n", namespace, "-batch", "-"], input=text, text=True, check=True, capture_output=True)


def _sweep() -> None:
    for path in Path("/run/netns").glob(f"{_PREFIX}-*-*"):
        pid = path.name.split("-")[1]
        if not Path(f"/proc/{pid}").exists():
            _run("ip", "netns", "del", path.name)
