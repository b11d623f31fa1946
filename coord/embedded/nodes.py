"""The file in which each server of an embedded cluster keeps who the others are: nodes.conf."""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from coord.core.slots import SLOTS
from coord.errors import ServerRefused

__all__ = ["BUS_OFFSET", "write_nodes"]

# How far a server's port for the others is from its port for clients, unless it is told otherwise.
BUS_OFFSET: Final = 10_000
_NAME: Final = "nodes.conf"
_MYSELF: Final = re.compile(r"^([0-9a-f]{40}) \S+ myself,", re.MULTILINE)


def write_nodes(folders: Sequence[Path], host: str, ports: Sequence[int], *, named_shards: bool) -> None:
    """Tell the servers of these folders of each other, before they start; create the folders.

    New servers share the slots evenly, so they need no meeting. Servers that have run keep their slots
    and names, and learn only at which ports the others are now: the cluster need not stay at its ports.

    :param named_shards: whether the servers give each shard a name, as Valkey and Redis from 7.2 on do. One that
        misses its own crashes at the first sharded message; an older one takes a name for a host's.
    :raises ServerRefused: the folders cannot be written, or hold another number of servers.
    """
    try:
        known = [_text(folder) for folder in folders]
        if None in known:
            texts = _new(host, ports, named_shards=named_shards)
            if any(text is not None for text in known):
                raise ServerRefused(
                    f"{folders[0].parent} holds a part of a cluster only: a server's {_NAME} is missing"
                )
        else:
            texts = _moved([text for text in known if text is not None], folders, host, ports)
        for folder, text in zip(folders, texts, strict=True):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            (folder / _NAME).write_text(text)
    except OSError as error:
        raise ServerRefused(f"{error.filename}: {error.strerror}") from error


def _text(folder: Path) -> str | None:
    path = folder / _NAME
    return path.read_text() if path.exists() else None


def _address(host: str, port: int) -> str:
    return f"{host}:{port}@{port + BUS_OFFSET}"


def _new(host: str, ports: Sequence[int], *, named_shards: bool) -> list[str]:
    count = len(ports)
    bounds = [SLOTS * number // count for number in range(count + 1)]
    names = [secrets.token_hex(20) for _ in ports]
    more = [f",,tls-port=0,shard-id={secrets.token_hex(20)}" if named_shards else "" for _ in ports]

    def line(number: int, *, of: int) -> str:
        flags = "myself,master" if number == of else "master"
        slots = f"{bounds[number]}-{bounds[number + 1] - 1}"
        address = _address(host, ports[number]) + more[number]
        return f"{names[number]} {address} {flags} - 0 0 {number + 1} connected {slots}\n"

    end = f"vars currentEpoch {count} lastVoteEpoch 0\n"
    return ["".join(line(number, of=of) for number in range(count)) + end for of in range(count)]


def _moved(texts: Sequence[str], folders: Sequence[Path], host: str, ports: Sequence[int]) -> list[str]:
    addresses = {}
    for text, folder, port in zip(texts, folders, ports, strict=True):
        own = _MYSELF.search(text)
        if own is None:
            raise ServerRefused(f"{folder / _NAME} does not say which server it is of")
        addresses[own[1]] = _address(host, port)

    def there(found: re.Match[str]) -> str:
        # What follows the address (a host name, a shard's name) stays.
        return f"{found[1]} {addresses.get(found[1], found[2])}"

    return [re.sub(r"(?m)^([0-9a-f]{40}) ([^\s,]+)", there, text) for text in texts]
