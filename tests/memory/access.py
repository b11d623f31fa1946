"""Users and what they may do, as Redis 7.0 decides it.

fakeredis's own list looks at the first key and channel only, not inside scripts, and lets everybody at anything where
a user has no pattern at all.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from fakeredis._helpers import SimpleError, compile_pattern
from fakeredis.model import get_command_info

_NOT_LET_IN = "WRONGPASS invalid username-password pair or user is disabled."
_NONE_REQUIRED = (
    "ERR AUTH <password> called without any password configured for the default user. "
    "Are you sure your configuration is correct?"
)


@dataclass(frozen=True, slots=True)
class Traits:
    """What Redis knows of a command: its name, flags, categories, and where its keys are."""

    name: str
    flags: frozenset[bytes] = frozenset()
    categories: frozenset[str] = frozenset()
    first_key: int = 0
    last_key: int = 0
    step: int = 0


# What fakeredis's table of commands leaves out.
_OWN = {
    "info": Traits("info", frozenset({b"loading"}), frozenset({"@slow", "@dangerous"})),
    "role": Traits("role", frozenset({b"loading", b"noscript"}), frozenset({"@fast", "@admin", "@dangerous"})),
    "wait": Traits("wait", frozenset({b"noscript"}), frozenset({"@slow", "@connection"})),
    "config get": Traits(
        "config|get", frozenset({b"loading", b"noscript"}), frozenset({"@slow", "@admin", "@dangerous"})
    ),
    "quit": Traits("quit", frozenset({b"loading", b"noscript", b"no_auth"}), frozenset({"@fast", "@connection"})),
}


@cache
def traits(command: str) -> Traits:
    """Return what is known of a command, named as fakeredis does (`config get`)."""
    info = get_command_info(command.encode())
    if command in _OWN or not info:
        return _OWN.get(command, Traits(command))
    name, _, flags, first, last, step, categories = info[:7]
    return Traits(name.decode(), frozenset(flags), frozenset(each.decode() for each in categories), first, last, step)


@dataclass(slots=True)
class User:
    """One user, as ACL SETUSER makes it."""

    enabled: bool = False
    any_password: bool = False
    passwords: set[bytes] = field(default_factory=set)
    commands: list[tuple[bool, str]] = field(default_factory=list)
    keys: list[bytes] = field(default_factory=list)
    channels: list[bytes] = field(default_factory=list)

    def apply(self, rule: bytes) -> None:
        """Take one rule; raises SimpleError for one that this server does not know."""
        mark, rest = rule[:1], rule[1:]
        plain = _RULES.get(rule.lower())
        if plain is not None:
            plain(self)
        elif mark == b">":
            self.passwords.add(rest)
        elif mark == b"<":
            self.passwords.discard(rest)
        elif mark == b"~":
            self.keys.append(rest)
        elif mark == b"&":
            self.channels.append(rest)
        elif mark in (b"+", b"-"):
            self.commands.append((mark == b"+", rest.decode().lower()))
        else:
            text = rule.decode("utf-8", "replace")
            raise SimpleError(f"ERR Error in ACL SETUSER modifier '{text}': Syntax error")

    def may_run(self, command: Traits) -> bool:
        """Return what the last rule about this command says."""
        names = {command.name, command.name.partition("|")[0], "@all", *command.categories}
        return next((allowed for allowed, what in reversed(self.commands) if what in names), False)

    def reset(self) -> None:
        """Be a user that has just been made."""
        self.enabled = self.any_password = False
        for each in (self.passwords, self.commands, self.keys, self.channels):
            each.clear()

    def _let_in(self, *, anybody: bool) -> None:
        self.any_password = anybody
        self.passwords.clear()


_RULES: dict[bytes, Callable[[User], None]] = {
    b"on": lambda user: setattr(user, "enabled", True),
    b"off": lambda user: setattr(user, "enabled", False),
    b"nopass": lambda user: user._let_in(anybody=True),
    b"resetpass": lambda user: user._let_in(anybody=False),
    b"allcommands": lambda user: user.commands.append((True, "@all")),
    b"nocommands": lambda user: user.commands.append((False, "@all")),
    b"allkeys": lambda user: user.keys.append(b"*"),
    b"resetkeys": lambda user: user.keys.clear(),
    b"allchannels": lambda user: user.channels.append(b"*"),
    b"resetchannels": lambda user: user.channels.clear(),
    b"reset": User.reset,
}


class AccessList:
    """The users of a server. Stands where fakeredis has its own."""

    def __init__(self, config: dict[bytes, bytes]) -> None:
        self._config = config
        self._users = {b"default": User()}
        for rule in (b"on", b"nopass", b"allcommands", b"allkeys", b"allchannels"):
            self._users[b"default"].apply(rule)

    def get_users(self) -> list[bytes]:
        """Return their names."""
        return list(self._users)

    def set_user(self, name: bytes, rules: Iterable[bytes]) -> None:
        """Make or change a user."""
        user = self._users.setdefault(name, User())
        for rule in rules:
            user.apply(rule)

    def delete_user(self, name: bytes) -> bool:
        """Forget a user; return whether there was one."""
        return self._users.pop(name, None) is not None

    def log_in(self, words: Sequence[bytes]) -> bytes:
        """Return the user that AUTH's words let in; raises SimpleError as Redis words it."""
        if not 1 <= len(words) <= 2:
            raise SimpleError("ERR syntax error" if words else "ERR wrong number of arguments for 'auth' command")
        name, password = words if len(words) == 2 else (b"default", words[0])
        required = self._config[b"requirepass"]
        if len(words) == 1 and not required:
            raise SimpleError(_NONE_REQUIRED)
        user = self._users.get(name)
        if name == b"default" and required:
            good = password == required
        else:
            good = user is not None and (user.any_password or password in user.passwords)
        if user is None or not user.enabled or not good:
            raise SimpleError(_NOT_LET_IN)
        return name

    def validate_command(self, username: bytes, _: Any, fields: list[bytes]) -> None:
        """Raise SimpleError where the user may not run this; by fakeredis's name."""
        why = self._refusal(username, fields)
        if why is not None:
            name, what = why
            what = what or f"run the '{name}' command"
            raise SimpleError(f"NOPERM this user has no permissions to {what}")

    def validate_in_script(self, username: bytes, fields: list[bytes]) -> None:
        """Raise SimpleError where a script of the user's may not run this."""
        why = self._refusal(username, fields)
        if why is not None:
            raise SimpleError(f"ERR The user executing the script can't {_IN_SCRIPT[why[1]]}")

    def _refusal(self, username: bytes, fields: list[bytes]) -> tuple[str, str] | None:
        if username == b"default" and len(self._users) == 1:
            return None
        user = self._users.get(username)
        command = _traits_of(fields)
        if b"no_auth" in command.flags:
            return None
        if user is None or not user.may_run(command):
            return command.name, ""
        if not _all_match(keys_of(command, fields), user.keys):
            return command.name, _KEYS
        exact, channels = _channels(command.name, fields)
        if not (_all_among if exact else _all_match)(channels, user.channels):
            return command.name, _CHANNELS
        return None


_KEYS = "access one of the keys used as arguments"
_CHANNELS = "access one of the channels used as arguments"
_IN_SCRIPT = {
    "": "run this command or subcommand",
    _KEYS: "access at least one of the keys mentioned in the command arguments",
    _CHANNELS: "publish to the channel mentioned in the command",
}


def _traits_of(fields: list[bytes]) -> Traits:
    command = fields[0].decode("utf-8", "replace").lower()
    if len(fields) > 1:
        whole = traits(f"{command} {fields[1].decode('utf-8', 'replace').lower()}")
        if whole.categories:
            return whole
    return traits(command)


def keys_of(command: Traits, fields: list[bytes]) -> list[bytes]:
    """Return the keys that a command names."""
    if command.name in ("eval", "evalsha", "eval_ro", "evalsha_ro") and len(fields) > 2 and fields[2].isdigit():
        return fields[3 : 3 + int(fields[2])]
    if command.name == "xread":
        upper = [word.upper() for word in fields]
        streams = fields[upper.index(b"STREAMS") + 1 :] if b"STREAMS" in upper else []
        return streams[: len(streams) // 2]
    if command.name in ("mget", "del", "unlink", "exists", "touch"):
        return fields[1:]  # fakeredis's table says they have one key
    if not command.first_key:
        return []
    end = command.last_key + 1 if command.last_key >= 0 else len(fields) + command.last_key + 1
    return fields[command.first_key : end : command.step or 1]


def _channels(command: str, fields: list[bytes]) -> tuple[bool, list[bytes]]:
    """Return whether they have to be in the user's list as they stand, and the channels."""
    if command in ("publish", "spublish"):
        return False, fields[1:2]
    if command in ("subscribe", "ssubscribe"):
        return False, fields[1:]
    return True, fields[1:] if command == "psubscribe" else []


def _all_match(names: list[bytes], patterns: list[bytes]) -> bool:
    return all(any(compile_pattern(each).match(name) for each in patterns) for name in names)


def _all_among(names: list[bytes], patterns: list[bytes]) -> bool:
    return b"*" in patterns or all(name in patterns for name in names)
