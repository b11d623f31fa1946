"""Escape, as JSON does, the characters that would control a terminal or mislead its user.

These are control characters (they begin escape sequences, and one of C1 is a whole one), line ends, direction
overrides, invisible characters, and lone surrogates, which stand for bytes that are not UTF-8.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["escaped", "is_plain"]

# The Unicode categories Cc, Cf, Cs, Zl and Zp, and a few code points reserved for them. Written out because computing
# them takes a tenth of a second; a test compares.
_UNSAFE: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\ud800-\udfff\ufeff\ufff0-\ufffb\U000110bd\U000110cd\U00013430-\U0001345f\U0001bca0-\U0001bcaf"
    "\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)


def is_plain(text: str) -> bool:
    """Whether ``text`` prints as it is."""
    return text.isprintable() or _UNSAFE.search(text) is None


def escaped(text: str, *, keep: str = "") -> str:
    """Return ``text`` with JSON escapes for every character that is not plain, except those in ``keep``.

    Escaped JSON is equivalent JSON: such characters occur only within its strings.
    """
    return text if text.isprintable() else _UNSAFE.sub(lambda found: _escape(found[0], keep), text)


def _escape(character: str, keep: str) -> str:
    if character in keep:
        return character
    code = ord(character)
    if code < 0x10000:
        return f"\\u{code:04x}"
    return f"\\u{0xD7C0 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"
