"""Processes: the command that this one becomes, and the orphans that it inherits as process 1."""

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
    """Exec ``argv`` in this process; raise `CannotRun`. A variable that is `None` is unset."""
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
    """Return our environment with these variables added, and without those that are `None`."""
    return {name: value for name, value in {**os.environ, **variables}.items() if value is not None}


def cannot_run(argv: Sequence[str], variables: Mapping[str, str | None], error: OSError) -> CannotRun:
    """Return the error for a command that the system refused to run with these variables."""
    if error.errno == errno.ENOENT:
        # ENOENT also means that a script's interpreter is missing.
        found = os.sep in argv[0] and os.path.lexists(argv[0])
        why = "its interpreter, or the target of a link, is missing" if found else "command not found"
        return CannotRun(argv[0], why, NOT_FOUND)
    if error.errno == errno.E2BIG:
        sizes = {name: len(os.fsencode(value)) for name, value in variables.items() if value is not None}
        longest = max(sizes, key=lambda name: sizes[name])
        size = sizes[longest]
        return CannotRun(
            argv[0],
            f"the environment is too large: {longest} has {size} bytes, but Linux allows 128 KiB for a variable"
            " with its name, and not much more for all of them",
        )
    return CannotRun(argv[0], error.strerror or str(error))


def reap_orphans() -> None:
    """Reap every child that has ended and that Twisted does not know.

    As PID 1 we inherit the children of parents that have ended.
    """
    while True:
        try:
            # WNOWAIT: the status of our own children is for the code that started them.
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if ended is None:
            return
        if ended.si_pid in process.reapProcessHandlers:
            process.reapAllProcesses()
        else:
            os.waitpid(ended.si_pid, os.WNOHANG)
