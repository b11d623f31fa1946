"""The commands of a cluster's server: slots, ASKING, MIGRATE, sharded messages, and RESP3 with its pushes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol

from fakeredis._commands import Signature
from fakeredis._helpers import OK, NoResponse, SimpleError, SimpleString

from coord.testing._commands import encode, own_commands
from memory import commands
from memory.access import keys_of, traits
from memory.commands import MemoryCommands
from memory.slots import Asked, Place, SlotTable, slot_of

__all__ = ["ShardCommands"]

_SHARDED = frozenset({"ssubscribe", "sunsubscribe", "spublish"})
_SUBSCRIBES = _SHARDED - {"spublish"} | {"subscribe", "unsubscribe", "psubscribe", "punsubscribe"}
_NON_LOCAL = "ERR Script attempted to access a non local key in a cluster node"


class Server(commands.Server, Protocol):
    """What the commands need from their server."""

    slots: SlotTable

    def set_slot(self, slot: int, words: Sequence[str]) -> None: ...

    def pass_on(self, port: int, keys: Sequence[bytes], *, replace: bool) -> bool: ...

    def keys_in(self, slot: int) -> list[bytes]: ...

    def describe(self) -> str: ...

    def state(self) -> str: ...


class _Reply:
    """Tells the reply to a command from what is pushed."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


class ShardCommands(MemoryCommands):
    """One client's commands and state on a server of a cluster."""

    own: ClassVar[Mapping[str, Signature]] = {
        **MemoryCommands.own,
        **own_commands(
            ("asking", "asking", (), ()),
            ("readonly", "readonly", (), ()),
            ("cluster", "cluster", (bytes,), (bytes,)),
            ("migrate", "migrate", (bytes, bytes, bytes, bytes, bytes), (bytes,)),
            ("select", "select", (bytes,), ()),
            ("hello", "hello", (), (bytes,)),
        ),
    }
    _host: Server
    _pubsub: int

    def __init__(self, server: Server, client: Any, address: str) -> None:
        super().__init__(server, client, address)
        self._resp = 2
        # Good for the next command only, whatever it is.
        self._asking = False
        self._asks = False

    def run(self, command: list[bytes]) -> None:
        """Run one command; ASKING is spent by it."""
        self._asks, self._asking = self._asking, False
        super().run(command)

    # --- where it runs ---------------------------------------------------------------------

    def _run_command(self, func: Any, sig: Signature, args: list[Any], from_script: bool) -> Any:
        refused = self._elsewhere(sig.name, args)
        if refused is not None:
            return SimpleError(_NON_LOCAL if from_script else refused)
        if self._resp == 2 or sig.name in _SUBSCRIBES:
            return super()._run_command(func, sig, args, from_script)
        # In RESP3 a subscriber may run anything.
        subscribed, self._pubsub = self._pubsub, 0
        try:
            return super()._run_command(func, sig, args, from_script)
        finally:
            self._pubsub = subscribed

    def _elsewhere(self, name: str, args: Sequence[Any]) -> str | None:
        if self._pubsub and self._resp == 2 and name not in self.ACCEPTED_COMMANDS_WHILE_PUBSUB:
            return None  # refused for that
        if name == "migrate":
            names = [args[2]] if len(args) > 2 and args[2] else list(args[args.index(b"KEYS") + 1 :])
        elif name in _SHARDED:
            names = list(args[:1] if name == "spublish" else args)
        else:
            names = keys_of(traits(name), [b"", *args])
        if not names:
            return None
        asked = Asked(names, name in _SHARDED, self._asks, name == "migrate")
        return self._host.slots.refusal(asked, lambda key: key in self._db)

    # --- replies and pushes ----------------------------------------------------------------

    def _decode_result(self, result: Any) -> Any:
        return result if isinstance(result, NoResponse) else _Reply(result)

    def put_response(self, msg: Any) -> None:
        """Send a reply, or what is pushed."""
        reply = msg.value if isinstance(msg, _Reply) else msg
        if self._resp == 2:
            self._client.send(encode(reply))
        elif reply is None:
            self._client.send(b"_\r\n")
        else:
            pushed = not isinstance(msg, _Reply)
            self._client.send((b">" if pushed else encode(reply)[:1]) + encode(reply)[1:])

    def hello(self, *args: bytes) -> Any:
        if not args or args[0] != b"3":
            self._resp = 2
            return super().hello(*args)
        fields = super().hello(b"2", *args[1:])
        self._resp = 3
        fields[fields.index("proto") + 1 if "proto" in fields else -1] = 3
        body = b"".join(encode(each.encode() if isinstance(each, str) else each) for each in fields)
        self._client.send(b"%%%d\r\n%b" % (len(fields) // 2, body))
        return NoResponse()

    def spublish(self, channel: bytes, message: bytes) -> int:
        receivers: int = super().spublish(channel, message)
        self._host.published(channel, message)
        return receivers

    def sunsubscribe(self, *channels: bytes) -> Any:
        return self._forget(b"sunsubscribe", self._server.ssubscribers, channels)

    def lose_channel(self, channel: bytes) -> None:
        """Push that a channel's slot has gone."""
        self._unsubscribe([channel], self._server.ssubscribers, b"sunsubscribe")

    # --- the commands ----------------------------------------------------------------------

    def asking(self) -> SimpleString:
        self._asking = True
        return OK

    def readonly(self) -> SimpleString:
        return OK

    def select(self, index: bytes) -> SimpleString:
        if index != b"0":
            raise SimpleError("ERR SELECT is not allowed in cluster mode")
        return OK

    def migrate(self, host: bytes, port: bytes, key: bytes, db: bytes, timeout: bytes, *more: bytes) -> Any:
        words = [word.upper() for word in more]
        keys = [key] if key else list(more[words.index(b"KEYS") + 1 :])
        moved = self._host.pass_on(int(port), keys, replace=b"REPLACE" in words)
        return OK if moved else SimpleString(b"NOKEY")

    def cluster(self, word: bytes, *words: bytes) -> Any:
        texts = [each.decode() for each in words]
        table = self._host.slots
        match word.upper():
            case b"SLOTS":
                return [_range(*each) for each in table.ranges()]
            case b"MYID":
                return table.own.id.encode()
            case b"KEYSLOT":
                return slot_of(words[0])
            case b"GETKEYSINSLOT":
                return self._host.keys_in(int(texts[0]))[: int(texts[1])]
            case b"COUNTKEYSINSLOT":
                return len(self._host.keys_in(int(texts[0])))
            case b"SETSLOT":
                self._host.set_slot(int(texts[0]), texts[1:])
                return OK
            case b"NODES":
                return self._host.describe().encode()
            case b"INFO":
                return self._host.state().encode()
        raise SimpleError(f"ERR unknown subcommand '{word.decode()}'. Try CLUSTER HELP.")


def _range(first: int, last: int, place: Place) -> list[Any]:
    return [first, last, [place.host.encode(), place.port, place.id.encode(), []]]
