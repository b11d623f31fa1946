"""The sockets that systemd has opened for this process, as in sd_listen_fds(3)."""

from __future__ import annotations

import os
from typing import Final

__all__ = ["inherited"]

_FIRST: Final = 3


def inherited() -> list[int]:
    """Return the descriptors of inherited sockets, and forget them: children are not meant.

    Call this before Twisted is imported: `twisted.internet.endpoints` takes the variables away.
    """
    pid, count = os.environ.pop("LISTEN_PID", ""), os.environ.pop("LISTEN_FDS", "")
    os.environ.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or not count.isdecimal():
        return []
    return list(range(_FIRST, _FIRST + int(count)))
