"""The first commands on a connection: log in, and check that the server is what the URL says."""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import quote

from twisted.python.failure import Failure

from coord.errors import ServerRefused
from coord.link.passwords import current
from coord.link.protocol import Connection, SubscriberConnection, connect_to
from coord.link.replication import fields_of
from coord.link.replies import LinkLost, ServerError
from coord.link.target import Target

__all__ = ["NotAPrimary", "connect", "log_in", "mode_of"]

_NEEDED: Final = (b"run_id", b"role", b"master_replid")
_SENTINELS: Final = "redis+sentinel://HOST1,HOST2,HOST3/SERVICE"
_SERVICE: Final = re.compile(rb"^master\d+:name=([^,\r\n]+),", re.MULTILINE)


class NotAPrimary(Exception):
    """The server is a replica, or the two connections are on two servers."""


async def connect(connection: Connection, target: Target, endpoint: Any, client_name: bytes) -> bytes:
    """Connect, log in, and return the run id of the server's process.

    :raises ServerError: the server refused a command.
    :raises ServerRefused: the server is of a kind that coord cannot use, or does not identify its data.
    :raises NotAPrimary: the server is a replica, or is loading its data.
    :raises LinkLost: the connection was lost meanwhile.

    It also raises what the endpoint and the password's function raise.
    """
    await connect_to(endpoint, connection)
    info = await log_in(connection, target)
    # For CLIENT LIST. An error (a missing permission) is ignored; the answer comes before those awaited below.
    connection.ask(b"CLIENT", b"SETNAME", client_name).addErrback(lambda _: None)
    if target.database:
        await connection.ask(b"SELECT", b"%d" % target.database)
    for section in (b"replication", b"persistence"):
        info |= fields_of(await connection.ask(b"INFO", section))
    _check_primary(target, info)
    if target.cluster is not None and isinstance(connection, SubscriberConnection):
        await connection.ask(b"HELLO", b"3")
    connection.write_directly()
    return info[b"run_id"]


async def log_in(connection: Connection, target: Target) -> dict[bytes, bytes]:
    """Log in, and return the server's ``INFO server``; its kind has been checked.

    The first command is one whose error is not ignored: a server with too many clients, or in protected mode, sends an
    error unasked, and we take it for the answer to that command.
    """
    refusal: BaseException | None = None
    if target.password is not None or target.username:
        user = [target.username.encode()] if target.username else []
        # With a name alone, log in under that name: to connect as the default user would be another user's access.
        logging_in = connection.ask(b"AUTH", *user, (current(target.password) or "").encode())
        refusal = await logging_in.addCallbacks(lambda _: None, _refused)
    try:
        # Also if AUTH was refused: a sentinel or cluster may not have this password, but still answers INFO.
        said = await connection.ask(b"INFO", b"server")
    except (ServerError, LinkLost) as error:
        raise refusal or error from None
    info = fields_of(said) if isinstance(said, bytes) else {}
    await _check_kind(connection, target, info)
    if refusal is not None:
        raise refusal
    if not info:
        raise ServerError("what answers there does not know INFO as a server does")
    return info


def _refused(failure: Failure) -> Any:
    failure.trap(ServerError)
    return failure.value


def mode_of(info: dict[bytes, bytes]) -> bytes:
    """Return ``standalone``, ``cluster`` or ``sentinel``; empty if INFO has no mode."""
    # Valkey has either field, depending on its settings.
    return info.get(b"redis_mode") or info.get(b"server_mode") or b""


async def _check_kind(connection: Connection, target: Target, info: dict[bytes, bytes]) -> None:
    match mode_of(info):
        case b"cluster" if target.cluster is None:
            raise ServerRefused(f"{target.shown}: a cluster's node; the URL of the cluster is {_cluster_url(target)}")
        case b"standalone" if target.cluster is not None:
            url = target.shown.replace("+cluster", "")
            raise ServerRefused(f"{target.shown}: a server of its own, and no cluster's node; its URL is {url}")
        case b"sentinel":
            services = _SERVICE.findall(await connection.ask(b"INFO", b"sentinel").addErrback(lambda _: b""))
            url = _sentinel_url(target.shown, services)
            raise ServerRefused(f"{target.shown}: a sentinel; the URL of what it watches over is {url}")


def _cluster_url(target: Target) -> str:
    host = re.fullmatch(r"(rediss?)://([^/?]*[^/?.])(?:/.*)?", target.shown)
    return f"{host[1]}+cluster://{host[2]}" if host else "redis+cluster://HOST1,HOST2"


def _sentinel_url(shown: str, services: list[bytes]) -> str:
    """Return the sentinel URL to use instead, with placeholders for what is not known."""
    host = re.fullmatch(r"(rediss?)://([^/?]*[^/?.])(?:/.*)?", shown)
    if host is None:
        return _SENTINELS
    service = quote(services[0], safe="") if len(services) == 1 else "SERVICE"
    return f"{host[1]}+sentinel://{host[2]}/{service}"


def _check_primary(target: Target, info: dict[bytes, bytes]) -> None:
    """Raise if the server is no primary, or is loading its data: it would refuse the first script."""
    missing = b", ".join(name for name in _NEEDED if name not in info).decode()
    if missing:
        raise ServerRefused(
            f"{target.shown}: the server's INFO does not tell {missing}, which identifies the server's data"
        )
    if info[b"role"] != b"master":
        primary = b":".join(filter(None, (info.get(b"master_host"), info.get(b"master_port"))))
        whose = f" of {primary.decode(errors='replace')}" if primary else ""
        raise NotAPrimary(f"the server is a replica{whose}")
    if b"1" in (info.get(b"loading"), info.get(b"async_loading")):
        raise NotAPrimary("the server is loading its data")
