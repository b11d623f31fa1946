"""The access rules that one namespace needs, and nothing more: what docs/operations.md tells operators to set.

A word that a node learns to use is added here, to one of the lists, and a test then says what the page has to show.
"""

from __future__ import annotations

from typing import Final

__all__ = ["DOCTOR", "NEEDED", "NODE", "OPTIONAL", "RARELY_NEEDED", "SELDOM_MISSED", "doctor_rule", "rule"]

NEEDED: Final = (
    # to find out what is there: the server process, and whether it is a primary that has loaded its data
    "info",
    # the subscriber, and the heartbeat's word
    "subscribe",
    "publish",
    # the scripts, and what they do
    "evalsha",
    "eval",
    "time",
    "hget",
    "hset",
    "hmget",
    "xadd",
    "xrange",
    "zadd",
    # to begin and to reset counters
    "zremrangebylex",
    # records(), and `coord ls`
    "hscan",
    # subscribers()
    "pubsub|numsub",
    # fire(..., replicas=1)
    "wait",
)
"""Commands without which something fails at once."""

RARELY_NEEDED: Final = (
    # to leave a channel: without it, the server goes on sending what nobody waits for
    "unsubscribe",
    # to forget records of pending keys after the retention: without them, they stay for ever
    "zrangebyscore",
    "zrem",
    # to end events that were fired with a TTL: without it, they stay, and waits for them are refused; and to see which
    # names have counted
    "zscore",
    # to hold keys, and to let go of them: without them, holds are refused, and a reset that somebody holds behind
    "zrangebylex",
    "zrevrangebylex",
    "zlexcount",
    # to forget all but the head of a map that nobody calls any more
    "hlen",
    "del",
    # to cut the history
    "xtrim",
    # to undo half a change
    "hdel",
    "xdel",
    # to begin a generation above all that the history has seen, where the head was lost and the clock set back
    "xinfo|stream",
    # a database other than 0
    "select",
)
"""Commands without which something fails later, or elsewhere."""

SELDOM_MISSED: Final = (
    # so that CLIENT LIST shows the node's name
    "client|setname",
    # so that others on the server's machine run first when a lone call is sent; its answer is nobody's
    "ping",
)
"""Commands that coord does without."""

NODE: Final = (*NEEDED, *RARELY_NEEDED, *SELDOM_MISSED)
"""What a node's user may do. None of it reads a secret of the server's, such as a password."""

DOCTOR: Final = (
    # prints passwords, too: so the doctor's user is one of its own, and reaches no events
    "config|get",
    # to name the user in what it says
    "acl|whoami",
)
"""What only the user of `coord doctor` may do."""

_SCRATCH: Final = "coord-doctor"


OPTIONAL: Final = ("scan",)
"""Commands that maps() and `coord ls` without a map need. No key pattern confines them: they show all keys' names."""


def rule(namespace: str, password: str, *, database: int = 0, without: str = "") -> list[str]:
    """Return the words of ACL SETUSER for a user who may do everything in one namespace, and nothing elsewhere."""
    return _words(f"{namespace}/*", NODE, password, database, without)


def doctor_rule(namespace: str, password: str, *, database: int = 0, without: str = "") -> list[str]:
    """Return those for the user of `coord doctor`: it may see how the server is set up, and no map but its own."""
    return _words(f"{namespace}/{_SCRATCH}}}*", (*NODE, *DOCTOR), password, database, without)


def _words(maps: str, commands: tuple[str, ...], password: str, database: int, without: str) -> list[str]:
    return [
        "reset",
        "on",
        f">{password}",
        "resetchannels",
        f"~coord:{{{maps}",
        *([] if maps.endswith("/*") else [f"~coord:{{{maps.partition('/')[0]}/}}:idle"]),
        f"&coord:{database}:{{{maps}",
        f"&coord:{database}:node:*",
        *(f"+{command}" for command in commands if command != without),
    ]
