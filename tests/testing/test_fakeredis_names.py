"""The private names of fakeredis that coord.testing and tests/memory use: where one changes, this says so first."""

from __future__ import annotations

import inspect
from importlib import import_module

import pytest

NAMES = {
    "fakeredis._command_args_parsing": ["Int"],
    "fakeredis._commands": ["COMMANDS_WITH_SUB", "SUPPORTED_COMMANDS", "Signature"],
    "fakeredis._core": ["FakeServer", "Database"],
    "fakeredis._helpers": [
        "NoResponse",
        "OK",
        "SimpleError",
        "SimpleString",
        "compile_pattern",
        "decode_command_bytes",
        "time",
    ],
    "fakeredis._msgs": ["FLAG_NO_SCRIPT"],
    "fakeredis._socket": ["FakeSocket"],
    "fakeredis._socket._base": ["time"],
    "fakeredis.commands_mixins.connection_mixin": ["time"],
    "fakeredis.commands_mixins.server_mixin": ["time"],
    "fakeredis.commands_mixins.scripting_mixin": [
        "LUA_MODULE",
        "_convert_redis_arg",
        "_lua_cjson_decode",
        "_lua_cjson_encode",
        "_lua_cjson_null",
    ],
    "fakeredis.model": ["get_command_info"],
    "fakeredis.model._client_info": ["time"],
    "fakeredis.model._stream": ["time"],
}

METHODS = {
    "__init__": ["self", "server", "db", "lua_modules", "args", "kwargs"],
    "_auth": ["self", "args"],
    "_blocking": ["self", "timeout", "func", "shape"],
    "_clear_watches": ["self"],
    "_cleanup": ["self", "server"],
    "_convert_lua_result": ["self", "result", "nested"],
    "_decode_result": ["self", "result"],
    "_discard_subscriptions": ["self"],
    "_kill_clients": ["self", "addr", "laddr", "client_id", "client_type", "user", "maxage", "skipme"],
    "_name_to_func": ["self", "cmd_name"],
    "_process_command": ["self", "fields"],
    "_run_command": ["self", "func", "sig", "args", "from_script"],
    "_unsubscribe": ["self", "channels", "subscribers", "mtype"],
    "acl_deluser": ["self", "username"],
    "acl_setuser": ["self", "username", "args"],
    "eval": ["self", "script", "numkeys", "keys_and_args"],
    "evalsha": ["self", "sha1", "numkeys", "keys_and_args"],
    "hello": ["self", "args"],
    "kill": ["self"],
    "punsubscribe": ["self", "patterns"],
    "put_response": ["self", "msg"],
    "script_load": ["self", "args"],
    "unsubscribe": ["self", "channels"],
    "xread": ["self", "args"],
}

ATTRIBUTES = {
    "acl",
    "config",
    "dbs",
    "lock",
    "psubscribers",
    "script_cache",
    "sockets",
    "ssubscribers",
    "subscribers",
}


@pytest.mark.parametrize("module", NAMES)
def test_modules_have_their_names(module: str) -> None:
    """What is imported, or replaced, is there."""
    found = import_module(module)
    assert [name for name in NAMES[module] if not hasattr(found, name)] == []


def test_no_other_module_on_our_way_looks_at_the_time() -> None:
    """Every module that a command of ours passes reads the clock of the server."""
    from coord.testing._fakeredis import on_clock

    with on_clock(lambda: 42.0):
        for module, names in NAMES.items():
            if "time" in names:
                assert import_module(module).time.time() == 42.0


def test_the_socket_has_its_methods() -> None:
    """What is overridden, or called, takes what it took."""
    from fakeredis._socket import FakeSocket

    found = {name: list(inspect.signature(getattr(FakeSocket, name)).parameters) for name in METHODS}
    assert found == METHODS


def test_the_server_has_its_attributes() -> None:
    """What is replaced, or read, is there; so are a database's and a command's."""
    from fakeredis._commands import SUPPORTED_COMMANDS
    from fakeredis._core import Database, FakeServer

    assert vars(FakeServer()).keys() >= ATTRIBUTES
    database = Database(None)
    assert hasattr(database, "_dict")
    assert {"add_change_callback", "remove_change_callback", "clear", "update"} <= set(dir(database))
    assert SUPPORTED_COMMANDS["auth"].func_name == "_auth"
    assert SUPPORTED_COMMANDS["script load"].func_name == "script_load"
