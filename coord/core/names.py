"""Names and keys: which are allowed, and the Redis keys and channels made from them (see `MapNames`)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, cast

from coord.errors import InvalidKey, InvalidName

__all__ = [
    "HEAD",
    "MAX_KEY_BYTES",
    "MAX_NAME_LENGTH",
    "MEMBERS",
    "MapNames",
    "acks_of",
    "check_key",
    "check_keys",
    "check_name",
    "check_prefix",
    "described",
    "idle_map",
    "idle_maps",
    "map_key_prefix",
    "map_of_key",
    "node_channel",
    "parse_key",
    "printable_field",
    "shown",
]

MAX_KEY_BYTES: Final = 512
MAX_NAME_LENGTH: Final = 128

HEAD: Final = b"\0head"
"""The field of the records' hash that holds the map's head. Keys have no control characters, so none begins like it.

Fields that begin with a NUL are coord's own; any other that is not a key (see `parse_key`) is foreign: another
program put it there.
"""

MEMBERS: Final = "@members"
"""The map of a namespace's members; no map of a user can have this name."""

_ACKS: Final = "/acks"
_NAME = re.compile(r"[A-Za-z0-9._-]{1,128}", re.ASCII)
# C0, DEL and C1: invisible, and a terminal would obey them.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")


def check_name(what: str, name: object) -> str:
    """Return ``name`` if it may name a ``what`` (namespace, map, node); else raise `InvalidName`."""
    if isinstance(name, str) and _NAME.fullmatch(name):
        return name
    raise InvalidName(
        f"{what} {shown(name)}: a name is 1 to {MAX_NAME_LENGTH} letters (A-Z, a-z), digits, '.', '_' and '-'"
    )


def acks_of(name: str) -> str:
    """Return the name of the map that has the acknowledgements of this map's changes; no map of a user can have it."""
    return name + _ACKS


def check_key(key: object, what: str = "key") -> bytes:
    """Return the UTF-8 of ``key``; raise `InvalidKey` if it breaks a rule.

    Bytes and paths are refused rather than guessed at: which encoding they are in is the caller's knowledge.

    :param what: what the user calls it: names given with ``once`` and ``who`` keep the same rules.
    """
    if type(key) is not str and not isinstance(key, str):
        raise _invalid(key, what, f"is a str, not {type(key).__name__}")
    try:
        encoded = key.encode()
    except UnicodeEncodeError:
        raise _invalid(key, what, "is UTF-8, this one has a lone surrogate") from None
    if not 1 <= len(encoded) <= MAX_KEY_BYTES:
        raise _invalid(key, what, f"is 1 to {MAX_KEY_BYTES} bytes of UTF-8, not {len(encoded)}")
    # isprintable() is quick, and true for almost every key; but some allowed keys are not printable.
    if not key.isprintable() and _CONTROL.search(key):
        raise _invalid(key, what, "has no control characters")
    return encoded


def _invalid(key: object, what: str, rule: str) -> InvalidKey:
    return InvalidKey(f"{what} {shown(key)}: a {'name' if what in ('once', 'who') else what} {rule}")


def check_prefix(prefix: object) -> str:
    """Return ``prefix`` if keys can begin with it; the empty one fits all keys."""
    if not isinstance(prefix, str):
        raise InvalidKey(f"prefix {prefix!r}: a prefix is a str, not {type(prefix).__name__}")
    if prefix:
        check_key(prefix, "prefix")
    return prefix


def check_keys(keys: Iterable[object]) -> list[str]:
    """Return ``keys`` in order, without repeats; raise `InvalidKey` for a bad key, or one string for all."""
    if isinstance(keys, str | bytes):
        raise InvalidKey(f"a list of keys is wanted, not the one string {shown(keys)}")
    wanted = list(keys)
    for key in wanted:
        check_key(key)
    return cast("list[str]", list(dict.fromkeys(wanted)))


def shown(value: object) -> str:
    """Return an invalid value for a message, cut to fit on a line."""
    try:
        text = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    except ValueError:
        # An int with more digits than Python writes.
        return f"a huge {type(value).__name__}"
    return text if len(text) <= 80 else text[:77] + "..."


def parse_key(field: bytes) -> str | None:
    """Return the key in a field of the records' hash or of the history; ``None`` if it is not a valid key."""
    try:
        key = field.decode()
    except UnicodeDecodeError:
        return None
    if not 1 <= len(field) <= MAX_KEY_BYTES or (not key.isprintable() and _CONTROL.search(key)):
        return None
    return key


def printable_field(field: bytes) -> str:
    """Return the name of a field for a message: escaped, and cut at 200 characters, if it is not a key."""
    key = parse_key(field)
    if key is not None:
        return key
    text = field[:MAX_KEY_BYTES].decode(errors="backslashreplace")
    escaped = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)
    return escaped if len(escaped) <= 200 and len(field) <= MAX_KEY_BYTES else f"{escaped[:197]}..."


def described(channel: bytes) -> str:
    """Return the map and key of a channel for a message, as ``MAP/KEY``."""
    tag, _, rest = channel.partition(b"{")[2].partition(b"}")
    part, _, key = rest.partition(b":")
    return f"{(tag.partition(b'/')[2] + part).decode()}/{printable_field(key)}"


def node_channel(database: int, incarnation: str) -> bytes:
    """Return the channel of a node's own heartbeat."""
    return b"coord:%d:node:%s" % (database, incarnation.encode())


def map_key_prefix(namespace: str) -> bytes:
    """Return the prefix of the Redis keys of a namespace's hashes."""
    return b"coord:{%s/" % namespace.encode()


def map_of_key(namespace: str, name: bytes) -> str | None:
    """Return the map whose hash is this Redis key; ``None`` if it is none of this namespace."""
    begin = map_key_prefix(namespace)
    found = name.removeprefix(begin).removesuffix(b"}").decode(errors="replace")
    return found if name == b"%b%b}" % (begin, found.encode()) and _NAME.fullmatch(found) else None


def idle_maps(namespace: str) -> bytes:
    """Return the Redis key of the set of maps that have data to forget. No map has the empty name."""
    return b"coord:{%s/}:idle" % namespace.encode()


def idle_map(namespace: str, name: str) -> bytes:
    """Return the Redis key of the same for one map alone, in the map's own slot of a cluster."""
    return b"coord:{%s/%s}:idle" % (namespace.encode(), name.encode())


class MapNames:
    """The Redis keys and channels of one map.

    Everything carries the hash tag ``{NAMESPACE/MAP}``, so that a map lives in one slot of a cluster. Channels
    carry the database number too, because pub/sub ignores databases. The map of a map's acknowledgements (`acks_of`)
    has that map's tag, with ``/acks`` behind it: who may use one may use the other, and both live in one slot.

    :param alone: on a cluster: no two maps share a key.
    """

    __slots__ = ("doorbell", "due", "entries", "idle", "log", "name", "namespace", "prefix", "records")

    def __init__(self, namespace: str, name: str, database: int, *, alone: bool = False) -> None:
        self.namespace = check_name("namespace", namespace)
        whose = name.removesuffix(_ACKS)
        self.name = name
        if whose != MEMBERS:
            check_name("map", whose)
        tag = b"{%s/%s}%s" % (namespace.encode(), whose.encode(), name[len(whose) :].encode())
        self.records = b"coord:" + tag
        self.log = self.records + b":log"
        self.due = self.records + b":due"
        self.entries = self.records + b":entries"
        self.idle = idle_map(namespace, whose) if alone else idle_maps(namespace)
        self.doorbell = b"coord:%d:%s" % (database, tag)
        self.prefix = self.doorbell + b":"

    @property
    def keys(self) -> tuple[bytes, bytes, bytes, bytes, bytes]:
        """The keys of a writing script, in its order."""
        return self.records, self.log, self.due, self.idle, self.entries

    def channel(self, key: str) -> bytes:
        """Return the channel of ``key``; raise `InvalidKey` if it breaks a rule."""
        return self.prefix + check_key(key)

    def key_of(self, channel: bytes) -> str:
        """Return the key of this channel."""
        return channel[len(self.prefix) :].decode()
