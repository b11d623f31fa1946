"""Keys in sentences.

Nothing is imported here but what every interpreter has loaded anyway: the shell quotes before it knows whether it needs
more.
"""

from __future__ import annotations

import re
import shlex

__all__ = ["quoted"]

# What no shell takes for more than itself.
_BARE = re.compile(r"[\w@%+=:,./-]+")


def quoted(text: str) -> str:
    """Return a key as a sentence shows it: if need be, as a shell would need it.

    What does not print, or looks like a plain space and is none, is escaped byte by byte in the shell's ``$'...'``.
    """
    if _BARE.fullmatch(text):
        return text
    return shlex.quote(text) if text.isprintable() else f"$'{''.join(map(_escape, text))}'"


def _escape(character: str) -> str:
    if character.isprintable():
        return f"\\{character}" if character in "\\'" else character
    return "".join(f"\\x{byte:02x}" for byte in character.encode(errors="surrogateescape"))
