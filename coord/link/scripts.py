"""The scripts that run on the server, read once."""

from __future__ import annotations

from hashlib import sha1
from importlib.resources import files
from typing import Final

__all__ = ["APPLY", "HEADS", "HISTORY", "IDLE", "SWEEP", "Script"]


class Script:
    """A Lua script, of one file or several, and the SHA1 by which EVALSHA knows it."""

    __slots__ = ("sha", "text")

    def __init__(self, *names: str) -> None:
        folder = files("coord.link").joinpath("lua")
        self.text = b"".join(folder.joinpath(name).read_bytes() for name in names)
        self.sha = sha1(self.text, usedforsecurity=False).hexdigest().encode()


APPLY: Final = Script("due.lua", "apply.lua")
HEADS: Final = Script("heads.lua")
HISTORY: Final = Script("history.lua")
IDLE: Final = Script("idle.lua")
SWEEP: Final = Script("due.lua", "sweep.lua")
