"""The scripts that run on the server, read once."""

from __future__ import annotations

from hashlib import sha1
from importlib.resources import files
from typing import Final

__all__ = ["APPLY", "HEADS", "HISTORY", "Script"]


class Script:
    """A Lua script and the SHA1 by which EVALSHA knows it."""

    __slots__ = ("sha", "text")

    def __init__(self, name: str) -> None:
        self.text = files("coord.link").joinpath("lua", name).read_bytes()
        self.sha = sha1(self.text, usedforsecurity=False).hexdigest().encode()


APPLY: Final = Script("apply.lua")
HEADS: Final = Script("heads.lua")
HISTORY: Final = Script("history.lua")
