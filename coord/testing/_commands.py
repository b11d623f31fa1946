"""The commands: fakeredis's socket class without a socket, and the commands of coord's that fakeredis lacks."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Protocol

from coord.testing._fakeredis import FakeServer, FakeSocket, Int, Signature, SimpleError, SimpleString

__all__ = ["Client", "Commands", "Server", "encode", "own_commands"]


class Server(Protocol):
    """What the commands need from their server."""

    fake: FakeServer
    replicas: int

    def info(self) -> dict[str, dict[str, str]]: ...


class Client(Protocol):
    """What the commands need from their connection."""

    def send(self, reply: bytes) -> None: ...


def own_commands(*rows: tuple[str, str, tuple[Any, ...], tuple[Any, ...]]) -> dict[str, Signature]:
    """Return a table of commands from rows: name, method, fixed arguments, arguments that may be repeated."""
    return {row[0]: Signature(*row) for row in rows}


class Commands(FakeSocket):  # type: ignore[misc]  # fakeredis has no annotations for us
    """One client's commands and server-side state: its database and subscriptions.

    ``own`` are the commands that fakeredis lacks.
    """

    own: ClassVar[Mapping[str, Signature]] = own_commands(
        ("info", "info", (), (bytes,)),
        ("wait", "wait", (Int, Int), ()),
    )

    def __init__(self, server: Server, client: Client, address: str) -> None:
        super().__init__(server.fake, 0, client_class=type(self), client_info={"addr": address})
        self._host = server
        self._client = client

    def run(self, command: list[bytes]) -> None:
        """Run one command; its replies, if any, go to the client."""
        self._process_command(command)

    def leave(self) -> None:
        """Remove the client: it no longer counts as connected and subscribed."""
        if self in self._server.sockets:
            self._server.sockets.remove(self)
        self._cleanup(self._server)

    @property
    def subscribed(self) -> bool:
        """Whether the client has any subscription."""
        return bool(self._pubsub)

    # --- what fakeredis calls --------------------------------------------------------------

    def put_response(self, msg: Any) -> None:
        self._client.send(encode(msg))

    def _decode_result(self, result: Any) -> Any:
        # fakeredis parses errors into redis-py's exceptions here; the wire needs the raw message.
        return result

    def _name_to_func(self, cmd_name: str) -> tuple[Callable[..., Any], Signature]:
        own = self.own.get(cmd_name)
        if own is not None:
            return getattr(self, own.func_name), own
        return super()._name_to_func(cmd_name)  # type: ignore[no-any-return]

    # --- the commands ----------------------------------------------------------------------

    def info(self, *sections: bytes) -> bytes:
        known = self._host.info()
        asked = {name.decode("utf-8", "replace").lower() for name in sections}
        if not asked or asked & {"all", "default", "everything"}:
            asked = set(known)
        return b"".join(_section(name, fields) for name, fields in known.items() if name in asked)

    def wait(self, replicas: int, timeout: int) -> Any:  # noqa: ARG002  # at once, enough or not
        return self._host.replicas


def _section(name: str, fields: Mapping[str, str]) -> bytes:
    lines = [f"# {name.capitalize()}", *(f"{field}:{value}" for field, value in fields.items()), ""]
    return "".join(f"{line}\r\n" for line in lines).encode()


def encode(reply: Any) -> bytes:
    """Return a reply in RESP2."""
    if isinstance(reply, bytes):
        return b"$%d\r\n%b\r\n" % (len(reply), reply)
    if reply is None:
        return b"$-1\r\n"
    if isinstance(reply, int):
        # What C converts a Lua number to that is not a 64-bit integer.
        return b":%d\r\n" % (reply if -(2**63) <= reply < 2**63 else -(2**63))
    if isinstance(reply, SimpleString):
        return b"+%b\r\n" % reply.value
    if isinstance(reply, SimpleError):
        text = reply.value.replace("\r", " ").replace("\n", " ")
        return b"-%b\r\n" % text.encode("utf-8", "replace")
    if isinstance(reply, list):
        return b"*%d\r\n%b" % (len(reply), b"".join(map(encode, reply)))
    raise TypeError(f"fakeredis answered with {type(reply)}")
