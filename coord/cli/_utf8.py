"""UTF-8 whatever the locale says: keys and values are UTF-8, and so are the words that they are typed in."""

from __future__ import annotations

import os
import sys

__all__ = ["use_utf8"]

_USAGE = 2


def use_utf8() -> None:
    """Begin this process anew in Python's UTF-8 mode, if the locale has another encoding.

    Python decodes the command line, the environment and the names of files by the locale, and encodes by it what a
    command gets. The mode is an option of this interpreter's: its commands do not inherit it.
    """
    if sys.getfilesystemencoding() == "utf-8":
        return
    try:
        os.execv(sys.executable, [os.fsencode(sys.executable), b"-X", b"utf8=1", *_words()[1:]])  # noqa: S606
    except (OSError, ValueError):
        # No interpreter to begin anew, as in a program that was frozen into one file.
        if not all(map(str.isascii, sys.argv)):
            encoding = sys.getfilesystemencoding()
            os.write(2, f"coord: the locale's encoding is {encoding}, coord needs UTF-8: LC_ALL=C.UTF-8\n".encode())
            sys.exit(_USAGE)


def _words() -> list[bytes]:
    """Return the command line as it came: to decode and encode it changes it in some locales (EUC-JP, Big5)."""
    from pathlib import Path

    try:
        return Path("/proc/self/cmdline").read_bytes().split(b"\0")[:-1]
    except OSError:
        return [os.fsencode(word) for word in sys.orig_argv]
