"""The terminal of coord, lent to the command that it runs, as a shell lends it to its jobs."""

from __future__ import annotations

import os
import signal
import termios
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

__all__ = ["Terminal"]


class Terminal:
    """The controlling terminal, if there is one.

    Its foreground group gets the input and the signals of Ctrl-C and Ctrl-Z; other groups that read it are stopped.
    """

    def __init__(self) -> None:
        self.lent = False
        self._modes: list[Any] = []
        try:
            self._fd: int | None = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY)
        except OSError:
            self._fd = None

    @property
    def is_ours_to_lend(self) -> bool:
        """Whether we are in its foreground, and no other process there needs it.

        A script runs background commands in its own group, with /dev/null as their stdin.
        """
        return self._is_ours and (os.isatty(0) or os.getpgrp() == os.getpid())

    @property
    def exists(self) -> bool:
        """Whether there is a terminal, and so perhaps a shell that notices when we stop."""
        return self._fd is not None

    @property
    def _is_ours(self) -> bool:
        if self._fd is None:
            return False
        try:
            return os.tcgetpgrp(self._fd) == os.getpgrp()
        except OSError:  # It was hung up.
            return False

    def close(self) -> None:
        """Close our descriptor of it."""
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

    def lend(self, group: int | None = None) -> None:
        """Make ``group`` its foreground; with `None`, the group does that itself."""
        self.lent = True
        with self._held() as fd:
            if fd is not None:
                self._modes = termios.tcgetattr(fd)
                if group is not None:
                    os.tcsetpgrp(fd, group)

    def take_back(self, *, restore: bool = False) -> None:
        """Become its foreground again; with ``restore``, also restore its modes."""
        if not self.lent:
            return
        self.lent = False
        with self._held() as fd:
            if fd is not None:
                os.tcsetpgrp(fd, os.getpgrp())
                if restore:
                    termios.tcsetattr(fd, termios.TCSADRAIN, self._modes)

    @contextmanager
    def _held(self) -> Iterator[int | None]:
        """Within this block the terminal can be changed from the background too."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTTOU])
        try:
            with suppress(OSError, termios.error):
                yield self._fd
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
