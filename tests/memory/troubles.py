"""What a server refuses for a while, in Redis's words."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from memory.access import Traits

Name = Literal[
    "busy", "loading", "masterdown", "oom", "misconf", "noreplicas", "tryagain", "noperm", "no reads", "no subscribing"
]


@dataclass(frozen=True, slots=True)
class Trouble:
    """Which commands are refused, and with which words."""

    words: str
    refuses: Callable[[Traits], bool]


def _keyed(command: Traits) -> bool:
    return bool(command.first_key) or b"movablekeys" in command.flags


def _oom(command: Traits) -> bool:
    # SUBSCRIBE carries the flag too, but is let through as long as it needs no eviction.
    return b"denyoom" in command.flags and b"pubsub" not in command.flags


def _denied(command: Traits) -> str:
    return f"NOPERM this user has no permissions to run the '{command.name}' command"


TROUBLES: dict[str, Trouble] = {
    "busy": Trouble(
        "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
        lambda command: b"allow_busy" not in command.flags,
    ),
    "loading": Trouble(
        "LOADING Redis is loading the dataset in memory", lambda command: b"loading" not in command.flags
    ),
    "masterdown": Trouble(
        "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
        lambda command: not command.flags & {b"stale", b"loading"},
    ),
    "oom": Trouble("OOM command not allowed when used memory > 'maxmemory'.", _oom),
    "misconf": Trouble(
        "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
        lambda command: b"write" in command.flags or command.name == "ping",
    ),
    "noreplicas": Trouble("NOREPLICAS Not enough good replicas to write.", lambda command: b"write" in command.flags),
    "tryagain": Trouble("TRYAGAIN Multiple keys request during rehashing of slot", _keyed),
    "readonly": Trouble("READONLY You can't write against a read only replica.", lambda c: b"write" in c.flags),
    # A permission that was taken away: all of them, or one.
    "noperm": Trouble("", lambda command: b"no_auth" not in command.flags),
    "no reads": Trouble("", lambda command: command.name == "hmget"),
    "no subscribing": Trouble("", lambda command: command.name == "subscribe"),
}


def refusal(trouble: str, command: Traits) -> str | None:
    """Return the words that a server in this trouble has for a command; None where it carries it out."""
    kind = TROUBLES[trouble]
    return (kind.words or _denied(command)) if kind.refuses(command) else None
