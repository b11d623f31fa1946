"""What a terminal would obey, or show as what it is not: it is printed escaped, as JSON has it.

Control characters (escape sequences begin with one, and in C1 one is enough), what ends a line, what changes the
direction of text, what cannot be seen, and halves of surrogate pairs, which stand for bytes that are no UTF-8.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["escaped", "is_plain"]

# The categories Cc, Cf, Cs, Zl and Zp of Unicode, and a little that is reserved for them. Written out, because to look
# for them all takes a tenth of a second; a test compares.
_UNSAFE: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\ud800-\udfff\ufeff\ufff0-\ufffb\U000110bd\U000110cd\U00013430-\U0001345f\U0001bca0-\U0001bcaf"
    "\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)


def is_plain(text: str) -> bool:
    """Whether ``text`` prints as it is."""
    return text.isprintable() or _UNSAFE.search(text) is None


def escaped(text: str, *, keep: str = "") -> str:
    """Return ``text`` with JSON's escapes for what is not plain, but for the characters in ``keep``.

    JSON stays the same JSON: within it such characters stand in strings alone.
    """
    return text if text.isprintable() else _UNSAFE.sub(lambda found: _escape(found[0], keep), text)


def _escape(character: str, keep: str) -> str:
    if character in keep:
        return character
    code = ord(character)
    if code < 0x10000:
        return f"\\u{code:04x}"
    return f"\\u{0xD7C0 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"
