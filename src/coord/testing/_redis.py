"""The commands: fakeredis's socket, without a socket, plus what it lacks of Redis 7.0."""

import hashlib
from collections.abc import Callable, Sequence
from functools import cache
from itertools import chain
from typing import Any, Protocol

from fakeredis._command_args_parsing import Int
from fakeredis._commands import COMMANDS_WITH_SUB, Signature
from fakeredis._core import FakeServer
from fakeredis._helpers import (
    OK,
    NoResponse,
    SimpleError,
    SimpleString,
    compile_pattern,
    decode_command_bytes,
)
from fakeredis._socket import FakeSocket
from fakeredis.commands_mixins.scripting_mixin import _convert_redis_arg
from fakeredis.model import get_command_info

from coord.testing._lua import Lua


class Host(Protocol):
    """What a socket asks of the server it belongs to."""

    fake: FakeServer
    role: str
    loading: bool
    out_of_memory: bool
    replicas: int

    def info(self) -> dict[str, dict[str, str]]: ...


class Peer(Protocol):
    """What a socket asks of the connection it answers on."""

    def send(self, reply: bytes) -> None: ...

    def hold(
        self, retry: Callable[[], Any], expire: Callable[[], Any], timeout: float | None
    ) -> None:
        """Answer nothing more until `retry` gives a reply, or `timeout` (s) ended in `expire`."""

    def wake(self) -> None:
        """Call `retry` in a later turn: what the client is blocked on may have come."""

    def end(self) -> None:
        """Close the connection once everything sent is out."""


# The commands fakeredis has not, by their arguments: what is fixed, what may be repeated.
_OWN = {
    name: Signature(name, method, fixed, repeat, flags=flags)
    for name, method, fixed, repeat, flags in (
        ("info", "info", (), (bytes,), ""),
        ("role", "role", (), (), "s"),
        ("wait", "wait", (Int, Int), (), "s"),
        ("config get", "config_get", (bytes,), (bytes,), "s"),
        ("quit", "quit", (), (), "s"),
    )
}
_BEFORE_AUTH = frozenset({"auth", "hello", "quit", "reset"})
_WHILE_LOADING = frozenset({"info", "role", "config get", "quit"})
_NO_ARGUMENTS = "ERR Please specify at least one argument for this redis.call() call"
_WRONG_NUMBER = "ERR Wrong number of args calling Redis command from script"


@cache
def _lua() -> Lua:
    return Lua()


class RedisSocket(FakeSocket):  # type: ignore[misc]  # fakeredis has no annotations for us
    """One client's state in the server; `Peer` is the way to the client."""

    def __init__(self, host: Host, peer: Peer, address: str) -> None:
        super().__init__(host.fake, 0, client_class=type(self), client_info={"addr": address})
        self._host = host
        self._peer = peer
        self._authenticated = not self._password
        self._blocked = False
        self._script_resp: int | None = None

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
        # Also the emptied channels go, which PUBSUB CHANNELS would otherwise list for ever.
        self._discard_subscriptions()
        self._clear_watches()

    # --- what may run ----------------------------------------------------------------------

    @property
    def subscribed(self) -> bool:
        """Whether the client has any subscription."""
        return bool(self._pubsub)

    @property
    def _password(self) -> bytes:
        password: bytes = self._server.config.get(b"requirepass", b"")
        return password

    def _name_to_func(self, cmd_name: str) -> tuple[Callable[..., Any], Signature]:
        if not (self._authenticated or cmd_name in _BEFORE_AUTH):
            raise SimpleError("NOAUTH Authentication required.")
        own = _OWN.get(cmd_name)
        if own is not None:
            return getattr(self, own.func_name), own
        return super()._name_to_func(cmd_name)  # type: ignore[no-any-return]

    def _run_command(
        self,
        func: Any,
        sig: Signature,
        args: list[Any],
        from_script: bool,  # noqa: FBT001
    ) -> Any:
        host = self._host
        if host.loading or host.out_of_memory or host.role != "master":
            refusal = self._refusal(sig.name)
            if refusal is not None:
                return SimpleError(refusal)
        return super()._run_command(func, sig, args, from_script)

    def _refusal(self, command: str) -> str | None:
        info = get_command_info(command.encode())
        flags = info[2] if info else ()
        if self._host.loading and b"loading" not in flags and command not in _WHILE_LOADING:
            return "LOADING Redis is loading the dataset in memory"
        if self._host.role != "master" and b"write" in flags:
            return "READONLY You can't write against a read only replica."
        # SUBSCRIBE carries the flag too, but is let through as long as it needs no eviction.
        if self._host.out_of_memory and b"denyoom" in flags and b"pubsub" not in flags:
            return "OOM command not allowed when used memory > 'maxmemory'."
        return None

    def _auth(self, *args: bytes) -> SimpleString:
        if not 1 <= len(args) <= 2:
            raise SimpleError("ERR wrong number of arguments for 'auth' command")
        name, password = args if len(args) == 2 else (b"default", args[0])
        if len(args) == 1 and not self._password:
            raise SimpleError(
                "ERR AUTH <password> called without any password configured for the default user. "
                "Are you sure your configuration is correct?"
            )
        if name == b"default":
            good = not self._password or password == self._password
        else:
            # Asked first: get_user_acl() creates the user that it is asked for.
            known = name in self._acl.get_users()
            good = known and self._acl.get_user_acl(name).check_password(password)
        if not good:
            raise SimpleError("WRONGPASS invalid username-password pair or user is disabled.")
        self._client_info["user"] = name.decode()
        self._authenticated = True
        return OK

    # --- scripts ---------------------------------------------------------------------------

    def eval(self, script: bytes, numkeys: int, *words: bytes) -> Any:
        sha = self.script_load(script)
        return self._run_script(sha, script, numkeys, words)

    def evalsha(self, sha1: bytes, numkeys: int, *words: bytes) -> Any:
        script = self._server.script_cache.get(sha1.lower())
        if script is None:
            raise SimpleError("NOSCRIPT No matching script. Please use EVAL.")
        return self._run_script(sha1.lower(), script, numkeys, words)

    def script_load(self, script: bytes) -> bytes:
        _lua().compile(script)
        sha = hashlib.sha1(script).hexdigest().encode()  # noqa: S324  # it is Redis's name for it
        self._server.script_cache[sha] = script
        return sha

    def _run_script(self, sha: bytes, script: bytes, numkeys: int, words: Sequence[bytes]) -> Any:
        if numkeys > len(words):
            raise SimpleError("ERR Number of keys can't be greater than number of args")
        if numkeys < 0:
            raise SimpleError("ERR Number of keys can't be negative")
        lua = _lua()
        self._script_resp = 2
        try:
            result = lua.run(
                sha.decode(), lua.compile(script), words[:numkeys], words[numkeys:], self._call
            )
        finally:
            self._script_resp = None
        return self._convert_lua_result(result, nested=False)

    def _call(self, *words: Any) -> tuple[bytes | None, Any]:
        """One redis.call of a script: (the text of its error or None, its reply for Lua)."""
        try:
            return None, self._for_lua(self._run_from_script(words))
        except SimpleError as problem:
            return problem.value.encode("utf-8", "replace"), None

    def _run_from_script(self, words: Sequence[Any]) -> Any:
        if not words:
            raise SimpleError(_NO_ARGUMENTS)
        fields = [_convert_redis_arg(word) for word in words]
        name, args = decode_command_bytes(fields[0]), fields[1:]
        if name in COMMANDS_WITH_SUB and args:
            name, args = f"{name} {decode_command_bytes(args[0])}", args[1:]
        try:
            func, sig = self._name_to_func(name)
        except SimpleError:
            raise SimpleError("ERR Unknown Redis command called from script") from None
        try:
            sig.check_arity(args, self.version)
        except SimpleError:
            raise SimpleError(_WRONG_NUMBER) from None
        self._server.acl.validate_command(self._client_info.user, self._client_info, fields)
        result = self._run_command(func, sig, args, True)
        if isinstance(result, SimpleError):
            raise result
        return result

    def _for_lua(self, reply: Any) -> Any:
        kind = type(reply)
        if kind is bytes or kind is int:
            return reply
        if reply is None:
            return False
        if kind is list:
            return _lua().table([self._for_lua(item) for item in reply])
        if kind is SimpleString:
            return _lua().named(ok=reply.value)
        raise TypeError(f"fakeredis answered a script with {kind}")

    # --- the missing commands --------------------------------------------------------------

    def info(self, *sections: bytes) -> bytes:
        known = self._host.info()
        asked = {name.decode("utf-8", "replace").lower() for name in sections}
        if not asked or asked & {"all", "default", "everything"}:
            asked = set(known)
        return "\r\n".join(
            f"# {name.capitalize()}\r\n"
            + "".join(f"{field}:{value}\r\n" for field, value in fields.items())
            for name, fields in known.items()
            if name in asked
        ).encode()

    def role(self) -> list[Any]:
        if self._host.role != "master":
            return [b"slave", b"127.0.0.1", 6379, b"connected", 0]
        return [b"master", 0, [[b"127.0.0.1", b"6380", b"0"]] * self._host.replicas]

    def wait(self, replicas: int, timeout: int) -> Any:
        if self._host.role != "master":
            raise SimpleError("ERR WAIT cannot be used with replica instances. ")
        if timeout < 0:
            raise SimpleError("ERR timeout is negative")

        def enough(_: Any) -> int | None:
            return self._host.replicas if self._host.replicas >= replicas else None

        return self._blocking(
            timeout / 1000, enough, lambda got: self._host.replicas if got is None else got
        )

    def config_get(self, *patterns: bytes) -> list[bytes]:
        config = self._server.config
        wanted = [compile_pattern(pattern.lower()) for pattern in patterns]
        names = [name for name in config if any(each.match(name) for each in wanted)]
        return list(chain.from_iterable((name, config[name]) for name in names))

    def unsubscribe(self, *channels: bytes) -> Any:
        return self._forget(b"unsubscribe", self._server.subscribers, channels)

    def punsubscribe(self, *patterns: bytes) -> Any:
        return self._forget(b"punsubscribe", self._server.psubscribers, patterns)

    def _forget(self, word: bytes, members: dict[bytes, Any], names: Sequence[bytes]) -> Any:
        if not names and not any(self in subscribed for subscribed in members.values()):
            # Redis confirms that there was nothing, where fakeredis is silent.
            return [word, None, self._pubsub]
        return self._unsubscribe(names, members, word)

    def quit(self) -> SimpleString:
        self._peer.end()
        return OK


def encode(reply: Any) -> bytes:
    """Return a reply in RESP2."""
    if isinstance(reply, bytes):
        return b"$%d\r\n%b\r\n" % (len(reply), reply)
    if reply is None:
        return b"$-1\r\n"
    if isinstance(reply, int):
        return b":%d\r\n" % reply
    if isinstance(reply, SimpleString):
        return b"+%b\r\n" % reply.value
    if isinstance(reply, SimpleError):
        text = reply.value.replace("\r", " ").replace("\n", " ")
        return b"-%b\r\n" % text.encode("utf-8", "replace")
    if isinstance(reply, list):
        return b"*%d\r\n%b" % (len(reply), b"".join(map(encode, reply)))
    raise TypeError(f"fakeredis answered with {type(reply)}")
