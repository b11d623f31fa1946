"""The units of systemd that the package holds: their text for this machine, and the names of their instances."""

from __future__ import annotations

import sys
from importlib.resources import files
from pathlib import Path
from typing import Final

import click

__all__ = ["event_of", "instance", "units"]

_SHIPPED: Final = "/usr/bin/coord"
_FOR_USERS_ONLY: Final = frozenset({"coord-server.service"})
_FOR_THE_SYSTEM_ONLY: Final = ("User=", "CapabilityBoundingSet=", "Wants=network-online", "After=network-online")
# As in systemd-escape(1).
_PLAIN: Final = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:_.")
_LONGEST: Final = 255


def units(*, user: bool) -> dict[str, str]:
    """Return the text of each unit, with the path of this coord; for a user's own manager, or the system's."""
    folder = files("coord") / "contrib" / "systemd"
    names = sorted(each.name for each in folder.iterdir())
    wanted = [name for name in names if user or name not in _FOR_USERS_ONLY]
    texts = {name: (folder / name).read_text(encoding="utf-8") for name in wanted}
    return {name: (_of_a_user(text) if user else text).replace(_SHIPPED, _program()) for name, text in texts.items()}


def _of_a_user(text: str) -> str:
    """Leave out what only the system's manager may do or has."""
    kept = [line for line in text.splitlines(keepends=True) if not line.startswith(_FOR_THE_SYSTEM_ONLY)]
    return "".join(kept).replace("WantedBy=multi-user.target", "WantedBy=default.target")


def _program() -> str:
    """Return the words that run this coord, as a unit has to spell them."""
    script = Path(sys.executable).with_name("coord")
    path, more = (script, "") if script.exists() else (Path(sys.executable), " -m coord.cli")
    return str(path).replace("\\", "\\\\").replace("%", "%%").replace(" ", "\\x20") + more


def instance(map_name: str, key: str) -> str:
    """Return how units name a key: MAP/KEY, escaped as by `systemd-escape`."""
    text = f"{map_name}/{key}".encode()
    escaped = "".join(_escaped(byte, first=not at) for at, byte in enumerate(text))
    if len(escaped) + len("coord-event@.service") > _LONGEST:
        raise click.UsageError(f"the name of the unit would be longer than {_LONGEST} characters")
    return escaped


def _escaped(byte: int, *, first: bool) -> str:
    if byte == ord("/"):
        return "-"
    # A dot in front would hide the file.
    return chr(byte) if byte in _PLAIN and not (first and byte == ord(".")) else f"\\x{byte:02x}"


def event_of(text: str) -> tuple[str, str]:
    """Return map and key of MAP/KEY; the key may contain more slashes, a map cannot."""
    map_name, slash, key = text.partition("/")
    if not slash:
        raise click.UsageError(f"{text!r} is not MAP/KEY")
    return map_name, key
