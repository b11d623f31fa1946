"""The commands: what `coord.testing` has of them, users, replication, and where fakeredis differs from Redis 7.0."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any, ClassVar, Protocol

from fakeredis._commands import Signature
from fakeredis._helpers import OK, NoResponse, SimpleError, SimpleString, compile_pattern

from coord.testing import _commands
from coord.testing._commands import Commands, own_commands
from memory.access import traits
from memory.scripts import Scripts
from memory.troubles import refusal

__all__ = ["MemoryCommands"]


class Server(_commands.Server, Protocol):
    """What the commands ask of the server that they belong to."""

    role: str
    writes: int

    @property
    def troubled(self) -> tuple[str, ...]: ...

    @property
    def lag(self) -> float | None: ...

    def wrote(self) -> int: ...

    def acknowledged(self, offset: int) -> int: ...

    def published(self, channel: bytes, message: bytes) -> None: ...


class Client(_commands.Client, Protocol):
    """What the commands ask of the connection that they are answered on."""

    def block(self, retry: Callable[[], Any], expire: Callable[[], Any], timeout: float | None) -> None:
        """Answer nothing more until `retry` gives a reply, or `timeout` (seconds) ended in `expire`."""

    def wake(self) -> None:
        """Call `retry` in a later turn: what the client is blocked on may have come."""

    def end(self) -> None:
        """Close the connection once everything sent is out."""


_NOT_FOR_SUBSCRIBERS = (
    "ERR Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context"
)


class MemoryCommands(Scripts):
    """What one client may ask, with nearly all that Redis knows of it."""

    own: ClassVar[Mapping[str, Signature]] = {
        **Commands.own,
        **own_commands(
            ("role", "role", (), ()),
            ("config get", "config_get", (bytes,), (bytes,)),
            ("quit", "quit", (), ()),
        ),
    }
    _host: Server
    _client: Client

    def __init__(self, server: Server, client: Client, address: str) -> None:
        super().__init__(server, client, address)
        self._authenticated = not self._server.config[b"requirepass"]
        self._blocked = False
        # Where the primary's stream of changes was after this client's last write.
        self._written = 0

    # --- commands that wait --------------------------------------------------------------

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

        self._client.block(retry, lambda: shape(None), timeout or None)
        self._blocked = True
        self._db.add_change_callback(self._client.wake)
        return NoResponse()

    def unblock(self) -> None:
        """End the blocking command, whichever way it ended."""
        if self._blocked:
            self._blocked = False
            self._db.remove_change_callback(self._client.wake)

    def kill(self) -> None:
        super().kill()
        self._client.end()

    def leave(self) -> None:
        """Forget the client: it counts as connected and subscribed no more."""
        self.unblock()
        super().leave()

    def _cleanup(self, server: Any) -> None:
        # The emptied channels go too, which PUBSUB CHANNELS would otherwise list for ever.
        self._discard_subscriptions()
        self._clear_watches()

    # --- what may run ----------------------------------------------------------------------

    def _name_to_func(self, cmd_name: str) -> tuple[Callable[..., Any], Signature]:
        if not (self._authenticated or b"no_auth" in traits(cmd_name).flags):
            raise SimpleError("NOAUTH Authentication required.")
        return super()._name_to_func(cmd_name)

    def _run_command(self, func: Any, sig: Signature, args: list[Any], from_script: bool) -> Any:
        if self._pubsub and sig.name not in self.ACCEPTED_COMMANDS_WHILE_PUBSUB:
            return self.quit() if sig.name == "quit" else SimpleError(_NOT_FOR_SUBSCRIBERS.format(sig.name))
        for trouble in self._host.troubled:
            words = refusal(trouble, traits(sig.name))
            if words is not None:
                return SimpleError(words)
        result = super()._run_command(func, sig, args, from_script)
        # Replicas that are not behind have acknowledged all there is.
        writes = b"write" in traits(sig.name).flags
        self._host.writes += writes
        told = writes or sig.name == "publish"
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
        self._client.end()
        return OK

    # --- the server ------------------------------------------------------------------------

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
