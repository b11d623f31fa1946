"""UTF-8 whatever the locale: keys and values are UTF-8, and so is the command line that contains them."""

from __future__ import annotations

import os
import sys

__all__ = ["use_utf8"]

_USAGE = 2


def use_utf8() -> None:
    """Restart this process in Python's UTF-8 mode, if the locale has another encoding.

    Python uses the locale's encoding for the command line, the environment and file names, and for the commands that
    it runs. The mode is an option of this interpreter: its commands do not inherit it.
    """
    if sys.getfilesystemencoding() == "utf-8":
        return
    try:
        os.execv(sys.executable, [os.fsencode(sys.executable), b"-X", b"utf8=1", *_words()[1:]])  # noqa: S606
    except (OSError, ValueError):
        # There is no interpreter to restart, as in a program frozen into one file.
        if not all(map(str.isascii, sys.argv)):
            encoding = sys.getfilesystemencoding()
            os.write(2, f"coord: the locale's encoding is {encoding}, coord needs UTF-8: set LC_ALL=C.UTF-8\n".encode())
            sys.exit(_USAGE)


def _words() -> list[bytes]:
    """Return the raw command line: decoding and encoding changes it in some locales (EUC-JP, Big5)."""
    from pathlib import Path

    try:
        return Path("/proc/self/cmdline").read_bytes().split(b"\0")[:-1]
    except OSError:
        return [os.fsencode(word) for word in sys.orig_argv]
