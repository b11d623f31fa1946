"""The commands: fakeredis's socket without a socket, and what it lacks of Redis that coord sends."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Protocol

from coord.testing._fakeredis import FakeServer, FakeSocket, Int, Signature, SimpleError, SimpleString

__all__ = ["Client", "Commands", "Server", "encode", "own_commands"]


class Server(Protocol):
    """What the commands ask of the server that they belong to."""

    fake: FakeServer
    replicas: int

    def info(self) -> dict[str, dict[str, str]]: ...


class Client(Protocol):
    """What the commands ask of the connection that they are answered on."""

    def send(self, reply: bytes) -> None: ...


def own_commands(*rows: tuple[str, str, tuple[Any, ...], tuple[Any, ...]]) -> dict[str, Signature]:
    """Return a table of commands from rows: name, method, fixed arguments, arguments that may be repeated."""
    return {row[0]: Signature(*row) for row in rows}


class Commands(FakeSocket):  # type: ignore[misc]  # fakeredis has no annotations for us
    """What one client may ask, and what the server keeps of it: its database, its subscriptions.

    ``own`` are the commands that fakeredis has not.
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
        """Carry out one command; its replies, if any, go to the client."""
        self._process_command(command)

    def leave(self) -> None:
        """Forget the client: it counts as connected and subscribed no more."""
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
        # fakeredis makes redis-py's exceptions here; the wire wants what it makes them of.
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
        # What C makes of a Lua number that is no 64-bit integer.
        return b":%d\r\n" % (reply if -(2**63) <= reply < 2**63 else -(2**63))
    if isinstance(reply, SimpleString):
        return b"+%b\r\n" % reply.value
    if isinstance(reply, SimpleError):
        text = reply.value.replace("\r", " ").replace("\n", " ")
        return b"-%b\r\n" % text.encode("utf-8", "replace")
    if isinstance(reply, list):
        return b"*%d\r\n%b" % (len(reply), b"".join(map(encode, reply)))
    raise TypeError(f"fakeredis answered with {type(reply)}")
