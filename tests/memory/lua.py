"""One Lua for every in-memory server: scripts are compiled once a process, then only entered.

fakeredis compiles a script again for each call and collects Lua's garbage after it, which makes a
short script cost 100 times what its commands do. It also hands Python strings and exceptions to the
script where Redis has error tables. So the way in and out is ours; the commands are fakeredis's.
"""

from collections.abc import Callable, Sequence
from functools import partial
from hashlib import sha1
from typing import Any, TypeAlias

from fakeredis._helpers import SimpleError
from fakeredis.commands_mixins import scripting_mixin

Caller: TypeAlias = Callable[..., tuple[bytes | None, Any]]
"""What `redis.call` reaches: (the text of the error or None, the reply as a Lua value)."""

# What follows is Redis 7.0's script_lua.c in Lua: an error is a table with a field `err`; a
# script that ends with one tells where; globals can neither be made nor misspelt.
_PRELUDE = b"""
local raw, sha1hex, cjson_encode, cjson_decode, cjson_null = ...
local getinfo, loadstring, setfenv, xpcall, type, tostring, error =
    debug.getinfo, loadstring, setfenv, xpcall, type, tostring, error

local redis = {
    call = function(...)
        local err, reply = raw(...)
        if err then error({err = err}) end
        return reply
    end,
    pcall = function(...)
        local err, reply = raw(...)
        if err then return {err = err} end
        return reply
    end,
    error_reply = function(text)
        if type(text) ~= 'string' then return {err = 'ERR wrong number or type of arguments'} end
        if text:sub(1, 1) == '-' then text = text:sub(2) end
        if not text:find(' ', 1, true) then text = 'ERR ' .. text end
        return {err = text}
    end,
    status_reply = function(text)
        if type(text) ~= 'string' then return {err = 'ERR wrong number or type of arguments'} end
        return {ok = text}
    end,
    sha1hex = sha1hex,
    log = function() end,
    LOG_DEBUG = 0, LOG_VERBOSE = 1, LOG_NOTICE = 2, LOG_WARNING = 3,
}

local globals = {}
for _, name in ipairs{'assert', 'error', 'getmetatable', 'ipairs', 'next', 'pairs',
        'rawequal', 'rawget', 'rawset', 'select', 'setmetatable', 'tonumber', 'tostring', 'type',
        'unpack', 'xpcall', 'loadstring', 'coroutine', '_VERSION'} do
    globals[name] = _G[name]
end
-- Libraries are read through an empty table, so that a script that writes to one is told.
local function readonly(library)
    return setmetatable({}, {__index = library, __newindex = function()
        error('Attempt to modify a readonly table', 2)
    end})
end
for name, library in pairs{string = string, math = math, table = table, redis = redis,
        cjson = {encode = cjson_encode, decode = cjson_decode, null = cjson_null}} do
    globals[name] = readonly(library)
end

-- What a script catches of redis.call is the text, not the table.
local function caught(done, problem, ...)
    if not done and type(problem) == 'table' and type(problem.err) == 'string' then
        return false, problem.err
    end
    return done, problem, ...
end
globals.pcall = function(...) return caught(pcall(...)) end

setmetatable(globals, {__index = function(_, name)
    error("Script attempted to access nonexistent global variable '" .. tostring(name) .. "'", 2)
end})
local env = readonly(globals)
globals._G = env

local function explain(problem)
    if type(problem) ~= 'table' then problem = {err = 'ERR ' .. tostring(problem)} end
    local level, where = 2, getinfo(2, 'Sl')
    while where and where.source ~= '@user_script' do
        level = level + 1
        where = getinfo(level, 'Sl')
    end
    -- A tail call (`return redis.call(...)`) leaves no line to tell.
    problem.line = where and where.currentline or '?'
    return problem
end

local function compile(source)
    local script, problem = loadstring(source, '@user_script')
    if script then setfenv(script, env) end
    return script, problem
end

local function run(script, keys, argv)
    globals.KEYS, globals.ARGV = keys, argv
    local done, result = xpcall(script, explain)
    return done, result
end

return compile, run
"""


class Lua:
    """A Lua 5.1 state with the names that Redis gives to scripts."""

    def __init__(self) -> None:
        # Bytes on both sides: values are binary. No Python object is in a script's reach.
        self._state = scripting_mixin.LUA_MODULE.LuaRuntime(
            encoding=None,
            unpack_returned_tuples=True,
            register_eval=False,
            register_builtins=False,
        )
        self._scripts: dict[bytes, Any] = {}
        self._caller: Caller | None = None
        self._bug: Exception | None = None
        known = set(self._state.globals().keys())
        self._compile, self._run = self._state.execute(
            _PRELUDE,
            self._call,
            lambda text: sha1(text).hexdigest().encode(),  # what it promises
            partial(scripting_mixin._lua_cjson_encode, self._state, known),
            partial(scripting_mixin._lua_cjson_decode, self._state, known),
            scripting_mixin._lua_cjson_null,
        )

    def table(self, items: Sequence[Any]) -> Any:
        """Return a Lua array."""
        return self._state.table_from(items)

    def named(self, **fields: bytes) -> Any:
        """Return a Lua table with these fields."""
        return self._state.table_from({name.encode(): value for name, value in fields.items()})

    def compile(self, source: bytes) -> Any:
        """Return the script as a Lua function; raises SimpleError as Redis words it."""
        script = self._scripts.get(source)
        if script is None:
            script, problem = self._compile(source)
            if script is None:
                text = problem.decode("utf-8", "replace")
                raise SimpleError(f"ERR Error compiling script (new function): {text}")
            self._scripts[source] = script
        return script

    def run(self, sha: str, script: Any, keys: Sequence[bytes], argv: Sequence[bytes], caller: Caller) -> Any:
        """Run a compiled script and return its Lua result; raises SimpleError for its failure."""
        self._caller, self._bug = caller, None
        try:
            done, result = self._run(script, self.table(keys), self.table(argv))
        finally:
            self._caller = None
        if self._bug is not None:
            raise self._bug
        if done:
            return result
        raise SimpleError(_failure(sha, result))

    def _call(self, *words: Any) -> tuple[bytes | None, Any]:
        assert self._caller is not None
        try:
            return self._caller(*words)
        except Exception as bug:
            # A fault of the fake, not of the script: a pcall in the script must not hide it.
            self._bug = bug
            raise


def _failure(sha: str, table: Any) -> str:
    text = table[b"err"]
    text = text.decode("utf-8", "replace") if isinstance(text, bytes) else "ERR unknown error"
    line = table[b"line"]
    return f"{text} script: {sha}, on @user_script:{'?' if line == b'?' else line}."
