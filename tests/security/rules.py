"""The access rule that one namespace needs, and nothing more: what docs/operations.md tells operators to set."""

from __future__ import annotations

from typing import Final

__all__ = ["NEEDED", "RARELY_NEEDED", "SELDOM_MISSED", "rule"]

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

SELDOM_MISSED: Final = ("client|setname",)
"""Commands that coord does without: here, so that CLIENT LIST shows the node's name."""


def rule(namespace: str, password: str, *, database: int = 0, without: str = "") -> list[str]:
    """Return the words of ACL SETUSER for a user who may do everything in one namespace, and nothing elsewhere."""
    commands = [command for command in (*NEEDED, *RARELY_NEEDED, *SELDOM_MISSED) if command != without]
    return [
        "reset",
        "on",
        f">{password}",
        f"~coord:{{{namespace}/*",
        f"&coord:{database}:{{{namespace}/*",
        f"&coord:{database}:node:*",
        *(f"+{command}" for command in commands),
    ]
