"""The commands: fakeredis's socket, without a socket, plus what it lacks of Redis 7.0."""

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any, Protocol

from fakeredis._command_args_parsing import Int
from fakeredis._commands import Signature
from fakeredis._core import FakeServer
from fakeredis._helpers import OK, NoResponse, SimpleError, SimpleString, compile_pattern

from coord.testing._access import traits
from coord.testing._scripts import ScriptSocket
from coord.testing._troubles import refusal


class Host(Protocol):
    """What a socket asks of the server it belongs to."""

    fake: FakeServer
    role: str
    replicas: int

    @property
    def troubled(self) -> tuple[str, ...]: ...

    @property
    def lag(self) -> float | None: ...

    def info(self) -> dict[str, dict[str, str]]: ...

    def wrote(self) -> int: ...

    def acknowledged(self, offset: int) -> int: ...

    def published(self, channel: bytes, message: bytes) -> None: ...


class Peer(Protocol):
    """What a socket asks of the connection it answers on."""

    def send(self, reply: bytes) -> None: ...

    def hold(self, retry: Callable[[], Any], expire: Callable[[], Any], timeout: float | None) -> None:
        """Answer nothing more until `retry` gives a reply, or `timeout` (seconds) ended in `expire`."""

    def wake(self) -> None:
        """Call `retry` in a later turn: what the client is blocked on may have come."""

    def end(self) -> None:
        """Close the connection once everything sent is out."""


# The commands fakeredis has not, by their arguments: what is fixed, what may be repeated.
_OWN = {
    name: Signature(name, method, fixed, repeat)
    for name, method, fixed, repeat in (
        ("info", "info", (), (bytes,)),
        ("role", "role", (), ()),
        ("wait", "wait", (Int, Int), ()),
        ("config get", "config_get", (bytes,), (bytes,)),
        ("quit", "quit", (), ()),
    )
}


_NOT_FOR_SUBSCRIBERS = (
    "ERR Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context"
)


class RedisSocket(ScriptSocket):
    """One client's state in the server; `Peer` is the way to the client."""

    def __init__(self, host: Host, peer: Peer, address: str) -> None:
        super().__init__(host.fake, 0, client_class=type(self), client_info={"addr": address})
        self._host = host
        self._peer = peer
        self._authenticated = not self._server.config[b"requirepass"]
        self._blocked = False
        # Where the primary's stream of changes was after this client's last write.
        self._written = 0

    # --- in and out ------------------------------------------------------------------------

    def process(self, command: list[bytes]) -> None:
        """Run one command; its replies, if any, go to the peer."""
        self._process_command(command)

    def put_response(self, msg: Any) -> None:
        self._peer.send(encode(msg))

    def _decode_result(self, result: Any) -> Any:
        # fakeredis makes redis-py's exceptions here; the wire wants what it makes them of.
        return result

    def _blocking(
        self,
        timeout: float | None,
        func: Callable[[bool], Any],
        shape: Callable[[Any], Any] = lambda result: result,
    ) -> Any:
        result = func(True)
        at_once = bool(self._in_transaction) or self._script_resp is not None
        if result is not None or at_once:
            return shape(result)

        def retry() -> Any:
            again = func(False)
            return None if again is None else shape(again)

        self._peer.hold(retry, lambda: shape(None), timeout or None)
        self._blocked = True
        self._db.add_change_callback(self._peer.wake)
        return NoResponse()

    def unblock(self) -> None:
        """End the blocking command, whichever way it ended."""
        if self._blocked:
            self._blocked = False
            self._db.remove_change_callback(self._peer.wake)

    def kill(self) -> None:
        super().kill()
        self._peer.end()

    def leave(self) -> None:
        """Forget the client: it counts as connected and subscribed no more."""
        self.unblock()
        if self in self._server.sockets:
            self._server.sockets.remove(self)
        self._cleanup(self._server)

    def _cleanup(self, server: Any) -> None:  # noqa: ARG002
        # The emptied channels go too, which PUBSUB CHANNELS would otherwise list for ever.
        self._discard_subscriptions()
        self._clear_watches()

    # --- what may run ----------------------------------------------------------------------

    @property
    def subscribed(self) -> bool:
        """Whether the client has any subscription."""
        return bool(self._pubsub)

    def _name_to_func(self, cmd_name: str) -> tuple[Callable[..., Any], Signature]:
        if not (self._authenticated or b"no_auth" in traits(cmd_name).flags):
            raise SimpleError("NOAUTH Authentication required.")
        own = _OWN.get(cmd_name)
        if own is not None:
            return getattr(self, own.func_name), own
        return super()._name_to_func(cmd_name)  # type: ignore[no-any-return]

    def _run_command(self, func: Any, sig: Signature, args: list[Any], from_script: bool) -> Any:  # noqa: FBT001
        if self._pubsub and sig.name not in self.ACCEPTED_COMMANDS_WHILE_PUBSUB:
            return self.quit() if sig.name == "quit" else SimpleError(_NOT_FOR_SUBSCRIBERS.format(sig.name))
        for trouble in self._host.troubled:
            words = refusal(trouble, traits(sig.name))
            if words is not None:
                return SimpleError(words)
        result = super()._run_command(func, sig, args, from_script)
        # Replicas that are not behind have acknowledged all there is.
        told = b"write" in traits(sig.name).flags or sig.name == "publish"
        if self._host.lag != 0 and told and not isinstance(result, SimpleError):
            self._written = self._host.wrote()
        return result

    # --- users -----------------------------------------------------------------------------

    def _auth(self, *words: bytes) -> SimpleString:
        self._client_info["user"] = self._server.acl.log_in(words).decode()
        self._authenticated = True
        return OK

    def acl_setuser(self, username: bytes, *rules: bytes) -> SimpleString:
        self._server.acl.set_user(username, rules)
        return OK

    def acl_deluser(self, username: bytes) -> int:
        if not self._server.acl.delete_user(username):
            return 0
        self._kill_clients(user=username, skipme=False)
        return 1

    def hello(self, *args: bytes) -> list[Any]:
        if args and args[0] != b"2":
            raise SimpleError("NOPROTO unsupported protocol version")
        return list(chain.from_iterable(super().hello(*args).items()))

    def quit(self) -> SimpleString:
        self._peer.end()
        return OK

    # --- the server ------------------------------------------------------------------------

    def info(self, *sections: bytes) -> bytes:
        known = self._host.info()
        asked = {name.decode("utf-8", "replace").lower() for name in sections}
        if not asked or asked & {"all", "default", "everything"}:
            asked = set(known)
        return "\r\n".join(
            f"# {name.capitalize()}\r\n" + "".join(f"{field}:{value}\r\n" for field, value in fields.items())
            for name, fields in known.items()
            if name in asked
        ).encode()

    def role(self) -> list[Any]:
        if self._host.role != "master":
            return [b"slave", b"127.0.0.1", 6379, b"connected", 0]
        return [b"master", 0, [[b"127.0.0.1", b"6380", b"0"]] * self._host.replicas]

    def wait(self, replicas: int, timeout: int) -> Any:
        if self._host.role != "master":
            raise SimpleError("ERR WAIT cannot be used with replica instances.")
        if timeout < 0:
            raise SimpleError("ERR timeout is negative")

        def count() -> int:
            return self._host.acknowledged(self._written)

        def enough(_: Any) -> int | None:
            return count() if count() >= replicas else None

        return self._blocking(timeout / 1000, enough, lambda got: count() if got is None else got)

    def publish(self, channel: bytes, message: bytes) -> int:
        receivers: int = super().publish(channel, message)
        self._host.published(channel, message)
        return receivers

    def config_get(self, *patterns: bytes) -> list[bytes]:
        config = self._server.config
        wanted = [compile_pattern(pattern.lower()) for pattern in patterns]
        names = [name for name in config if any(each.match(name) for each in wanted)]
        return list(chain.from_iterable((name, config[name]) for name in names))

    # --- where fakeredis differs -----------------------------------------------------------

    def unsubscribe(self, *channels: bytes) -> Any:
        return self._forget(b"unsubscribe", self._server.subscribers, channels)

    def punsubscribe(self, *patterns: bytes) -> Any:
        return self._forget(b"punsubscribe", self._server.psubscribers, patterns)

    def _forget(self, word: bytes, members: dict[bytes, Any], names: Sequence[bytes]) -> Any:
        if not names and not any(self in subscribed for subscribed in members.values()):
            # Redis confirms that there was nothing, where fakeredis is silent.
            return [word, None, self._pubsub]
        return self._unsubscribe(names, members, word)

    def xread(self, *args: bytes) -> Any:
        # Nothing to read is a null, not an empty list.
        return super().xread(*args) or None


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
