"""Quoting of keys in messages.

This imports only modules that every interpreter has loaded anyway: the shell quotes before it imports anything else.
"""

from __future__ import annotations

import re
import shlex

__all__ = ["quoted"]

# Text that no shell interprets.
_BARE = re.compile(r"[\w@%+=:,./-]+")


def quoted(text: str) -> str:
    """Return a key for a message, quoted as a shell needs it.

    Characters that are not printable, and spaces other than the plain one, are escaped byte by byte in ``$'...'``.
    """
    if _BARE.fullmatch(text):
        return text
    return shlex.quote(text) if text.isprintable() else f"$'{''.join(map(_escape, text))}'"


def _escape(character: str) -> str:
    if character.isprintable():
        return f"\\{character}" if character in "\\'" else character
    return "".join(f"\\x{byte:02x}" for byte in character.encode(errors="surrogateescape"))
