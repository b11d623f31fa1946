"""Processes: the command that this one becomes, and the orphans that come to it as process 1."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Mapping, Sequence
from typing import NoReturn

from twisted.internet import process

from coord.cli import _signals, _talk
from coord.cli._exits import NOT_FOUND, CannotRun

__all__ = ["become", "cannot_run", "present", "reap_orphans"]


def become(argv: tuple[str, ...], variables: Mapping[str, str | None]) -> NoReturn:
    """Turn this process into ``argv``; raise `CannotRun`. A variable that is `None` is not in its environment."""
    if sys.stdout is not None:
        sys.stdout.flush()
    _talk.finish()
    _signals.restore_defaults()
    environment = present(variables)
    try:
        os.execvpe(argv[0], argv, environment)  # noqa: S606 - the user's own command
    except OSError as error:
        raise cannot_run(argv, variables, error) from None


def present(variables: Mapping[str, str | None]) -> dict[str, str]:
    """Return our environment with these variables, and without those that are `None`."""
    return {name: value for name, value in {**os.environ, **variables}.items() if value is not None}


def cannot_run(argv: Sequence[str], variables: Mapping[str, str | None], error: OSError) -> CannotRun:
    """Return what to say of a command that the system refused to run with these variables."""
    if error.errno == errno.ENOENT:
        # A script whose interpreter is missing looks the same to the system.
        found = os.sep in argv[0] and os.path.lexists(argv[0])
        why = "its interpreter, or what it links to, is not there" if found else "command not found"
        return CannotRun(argv[0], why, NOT_FOUND)
    if error.errno == errno.E2BIG:
        sizes = {name: len(os.fsencode(value)) for name, value in variables.items() if value is not None}
        longest = max(sizes, key=lambda name: sizes[name])
        size = sizes[longest]
        return CannotRun(
            argv[0],
            f"the environment does not fit: {longest} has {size} bytes, where Linux takes 128 KiB"
            " with the name, and not much more for all of it",
        )
    return CannotRun(argv[0], error.strerror or str(error))


def reap_orphans() -> None:
    """Collect every child that has ended and is nobody's.

    As PID 1 we get those whose parents have gone.
    """
    while True:
        try:
            # Looked at, not taken: the status of our own children belongs to who started them.
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if ended is None:
            return
        if ended.si_pid in process.reapProcessHandlers:
            process.reapAllProcesses()
        else:
            os.waitpid(ended.si_pid, os.WNOHANG)
