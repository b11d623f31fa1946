"""The scripts that run on the server, loaded once."""

from __future__ import annotations

from hashlib import sha1
from pkgutil import get_data
from typing import Final

__all__ = ["APPLY", "BEAT", "HEADS", "HISTORY", "HOLDERS", "IDLE", "LOOK", "SWEEP", "Script"]


class Script:
    """A Lua script, from one or several files, and its SHA1 for EVALSHA."""

    __slots__ = ("sha", "text")

    def __init__(self, *names: str) -> None:
        # Not with importlib.resources, whose import takes longer than reading all of these files.
        self.text = b"".join(get_data("coord.link", f"lua/{name}") or b"" for name in names)
        self.sha = sha1(self.text, usedforsecurity=False).hexdigest().encode()


# One chunk: a function for each part would be made anew at each run.
APPLY: Final = Script(
    "due.lua", "apply.lua", "apply_holders.lua", "apply_locks.lua", "apply_counters.lua", "apply_calls.lua"
)
BEAT: Final = Script("due.lua", "clock.lua", "beat.lua")
HEADS: Final = Script("heads.lua")
HISTORY: Final = Script("history.lua")
HOLDERS: Final = Script("holders.lua")
IDLE: Final = Script("idle.lua")
LOOK: Final = Script("look.lua")
SWEEP: Final = Script("due.lua", "clock.lua", "sweep.lua")
