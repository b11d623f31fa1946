"""The embedded server's configuration, checked before it starts."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from coord.embedded.folder import Folder
from coord.errors import InvalidInput, InvalidURL

__all__ = ["check_address", "check_password", "check_settings", "configuration"]

# Acknowledged events survive the server's end, and are never evicted.
_DEFAULTS: Final = {
    "appendonly": "yes",
    "appendfsync": "everysec",
    "save": "",
    "maxmemory-policy": "noeviction",
}
# Settings that coord needs to reach the server, to read its log and to find its data again.
_OURS: Final = frozenset(
    {"appenddirname", "bind", "daemonize", "dbfilename", "dir", "include", "logfile", "pidfile"}
    | {"port", "supervised", "syslog-enabled", "unixsocket", "unixsocketperm"}
)


def check_address(host: str, port: int | None) -> None:
    """Refuse an invalid port, and any host but this one: the server is for one machine.

    :raises InvalidURL: naming the port or the host.
    """
    if port is not None and (isinstance(port, bool) or not 1 <= port <= 65535):
        raise InvalidURL(f"{port!r}: a port is a number from 1 to 65535")
    try:
        loopback = ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise InvalidURL(f"{host}: the embedded server is for one machine, and listens on 127.0.0.1 or ::1 only")


def check_settings(settings: Mapping[str, str]) -> dict[str, str]:
    """Return the defaults as overridden by ``settings``, written as in valkey.conf.

    :raises InvalidInput: for a setting reserved for coord, or a value of several lines.
    """
    checked = dict(_DEFAULTS)
    for name, value in settings.items():
        if not re.fullmatch(r"[a-z][a-z0-9-]*", name.lower()):
            raise InvalidInput(f"{name!r} is not a valid name of a setting")
        if name.lower() in _OURS:
            raise InvalidInput(f"the setting {name!r} is reserved: an embedded server does not let its user change it")
        if not isinstance(value, str) or re.search(r"[\0\r\n]", value):
            raise InvalidInput(f"the value of the setting {name!r} is not one line of text")
        checked[name.lower()] = value.strip()
    return checked


def check_password(password: str | None) -> None:
    """Refuse a password that cannot be set, without repeating it in the error.

    :raises InvalidInput: if it is empty, or not a single line of UTF-8.
    """
    if password is not None and (not password or re.search(r"[\0\r\n\ud800-\udfff]", password)):
        raise InvalidInput("the server's password is not one line of text")


def configuration(
    folder: Folder, host: str, port: int | None, settings: Mapping[str, str], password: str | None = None
) -> bytes:
    """Return the configuration file, for ``host`` and ``port``, or without a port for its socket."""
    address = (
        [f"bind {host}", f"port {port}"]
        if port is not None
        else ["port 0", f"unixsocket {_quoted(folder.socket)}", "unixsocketperm 600"]
    )
    chosen = [f"{name} {value}" if value else f'{name} ""' for name, value in settings.items()]
    secret = [] if password is None else [f"requirepass {_quoted(password)}"]
    lines = [f"dir {_quoted(folder.path)}", *address, *chosen, *secret]
    return "\n".join([*lines, ""]).encode()


def _quoted(path: Path | str) -> str:
    """Quote a path or text for valkey.conf, whatever bytes it contains."""
    return '"' + "".join(f"\\x{byte:02x}" for byte in os.fsencode(path)) + '"'
