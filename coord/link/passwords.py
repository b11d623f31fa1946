"""Passwords: fixed ones, and functions that return the current one.

A function is called at each login of each connection. So a password that was changed is used at the next reconnect.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from coord.errors import InvalidURL

__all__ = ["Password", "check_text", "current"]

Password = str | Callable[[], str]

_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def check_text(what: str, text: object) -> str:
    """Return a name or password if it can be sent; no error shows any part of it."""
    if isinstance(text, str) and not _SURROGATE.search(text):
        return text
    raise InvalidURL(f"{what}: a str of UTF-8 is wanted")


def current(password: Password | None) -> str | None:
    """Return the password to log in with now; raise what its function raises, or `InvalidURL` for what is no text."""
    if not callable(password):
        return password
    given: Any = password()
    return check_text("what the password's function returned", given)
