"""Scripts in the server: EVAL and its family over our own Lua, the commands inside over fakeredis."""

from collections.abc import Sequence
from functools import cache
from hashlib import sha1
from typing import Any

from fakeredis._commands import COMMANDS_WITH_SUB
from fakeredis._helpers import SimpleError, SimpleString, decode_command_bytes
from fakeredis._msgs import FLAG_NO_SCRIPT
from fakeredis.commands_mixins.scripting_mixin import LUA_MODULE, _convert_redis_arg

from coord.testing._commands import Commands
from memory.access import traits
from memory.lua import Lua

_NO_REPLY = frozenset({"function", "thread", "userdata"})


@cache
def _lua() -> Lua:
    return Lua()


class Scripts(Commands):
    """The commands of scripts; those inside a script are checked as Redis does."""

    _db: Any
    _db_num: int
    _script_resp: int | None

    def eval(self, script: bytes, numkeys: int, *words: bytes) -> Any:
        """Run a script, and remember it."""
        return self._run_script(self.script_load(script), script, numkeys, words)

    def evalsha(self, digest: bytes, numkeys: int, *words: bytes) -> Any:
        """Run a script that is known."""
        script = self._server.script_cache.get(digest.lower())
        if script is None:
            raise SimpleError("NOSCRIPT No matching script. Please use EVAL.")
        return self._run_script(digest.lower(), script, numkeys, words)

    def script_load(self, script: bytes) -> bytes:
        """Remember a script, by the name that is answered."""
        _lua().compile(script)
        digest = sha1(script).hexdigest().encode()  # it is Redis's name for it
        self._server.script_cache[digest] = script
        return digest

    def _run_script(self, digest: bytes, script: bytes, numkeys: int, words: Sequence[bytes]) -> Any:
        if numkeys > len(words):
            raise SimpleError("ERR Number of keys can't be greater than number of args")
        if numkeys < 0:
            raise SimpleError("ERR Number of keys can't be negative")
        database = self._db, self._db_num
        self._script_resp = 2
        try:
            function = _lua().compile(script)
            result = _lua().run(digest.decode(), function, words[:numkeys], words[numkeys:], self._call)
        finally:
            self._script_resp = None
            self._db, self._db_num = database
        return self._convert_lua_result(result, nested=False)

    def _call(self, *words: Any) -> tuple[bytes | None, Any]:
        """One redis.call of a script: (the text of its error or None, its reply for Lua)."""
        try:
            return None, _for_lua(self._run_from_script(words))
        except SimpleError as problem:
            return problem.value.encode("utf-8", "replace"), None

    def _run_from_script(self, words: Sequence[Any]) -> Any:
        if not words:
            raise SimpleError("ERR Please specify at least one argument for this redis lib call")
        fields = [_convert_redis_arg(word) for word in words]
        name, args = decode_command_bytes(fields[0]), fields[1:]
        if name in COMMANDS_WITH_SUB and args:
            name, args = f"{name} {decode_command_bytes(args[0])}", args[1:]
        try:
            func, signature = self._name_to_func(name)
        except SimpleError:
            raise SimpleError("ERR Unknown Redis command called from script") from None
        try:
            signature.check_arity(args, self.version)
        except SimpleError:
            raise SimpleError("ERR Wrong number of args calling Redis command from script") from None
        if b"noscript" in traits(signature.name).flags or FLAG_NO_SCRIPT in signature.flags:
            raise SimpleError("ERR This Redis command is not allowed from script")
        self._server.acl.validate_in_script(self._client_info.user, fields)
        result = self._run_command(func, signature, args, True)
        if isinstance(result, SimpleError):
            raise result
        return result

    def _convert_lua_result(self, result: Any, nested: bool = True) -> Any:
        if type(result) is bytes or type(result) is int:
            return result
        if LUA_MODULE.lua_type(result) in _NO_REPLY:
            return None
        return super()._convert_lua_result(result, nested)


def _for_lua(reply: Any) -> Any:
    kind = type(reply)
    if kind is bytes or kind is int:
        return reply
    if reply is None:
        return False
    if kind is list:
        return _lua().table([_for_lua(item) for item in reply])
    if kind is SimpleString:
        return _lua().named(ok=reply.value)
    raise TypeError(f"fakeredis answered a script with {kind}")
