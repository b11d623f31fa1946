"""Terminals: shells that commands are typed into, and whose output is read as it comes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from docs.pages import Step, matches

__all__ = ["Terminal"]

PATIENCE: Final = 30.0

# Ends each command's output with its exit status between two marks, and passes that status on to the next one's $?.
_PREAMBLE: Final = r"""
ended() { local status=$?; printf '\036%s\036\n' "$status"; return "$status"; }
sudo() { "$@"; }
"""
_ENDED: Final = re.compile("\x1e(\\d+)\x1e\n")


class Terminal:
    """One bash, without a prompt.

    :param prefix: words that run it somewhere else, in a mount namespace for example.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str], prefix: Sequence[str] = ()) -> None:
        self._shell = subprocess.Popen(
            [*prefix, "bash", "--noprofile", "--norc"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=environment,
            start_new_session=True,
        )
        self._changed = threading.Condition()
        self._printed = ""
        self._closed = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._write(_PREAMBLE)

    def type(self, step: Step) -> None:
        """Type a command; the one before it has ended."""
        with self._changed:
            self._printed = ""
        self._write(f"{{ {step.command}\n}} </dev/null\nended\n")

    def wait_for_end(self, step: Step) -> int:
        """Wait until the command has ended with the output of the page; return its exit status."""
        found = self._wait(lambda: _ENDED.search(self._printed), step)
        self.check(step)
        return int(found[1])

    def wait_for_word(self, step: Step) -> None:
        """Wait until the command says its first word, or ends."""
        self._wait(lambda: "\n" in self._printed, step)

    def wait_for_output(self, step: Step) -> None:
        """Wait until the command has printed what the page shows; it may go on."""
        if self._wait(lambda: self._ended or self._shows(step), step):
            self.check(step)

    def check(self, step: Step) -> None:
        """Compare what a command printed to the page."""
        if not self._shows(step):
            self._differ(step, "printed something else")

    def close(self) -> None:
        """End the shell and whatever runs in it."""
        with suppress(ProcessLookupError):
            os.killpg(self._shell.pid, signal.SIGTERM)
        with suppress(BrokenPipeError, OSError):
            assert self._shell.stdin is not None
            self._shell.stdin.close()
        # bash leaves after its child has.
        self._reader.join(PATIENCE)
        with suppress(ProcessLookupError):
            os.killpg(self._shell.pid, signal.SIGKILL)
        self._shell.wait()
        self._reader.join()
        assert self._shell.stdout is not None
        self._shell.stdout.close()

    @property
    def _ended(self) -> bool:
        return _ENDED.search(self._printed) is not None

    def _shows(self, step: Step) -> bool:
        return matches(step.output, _ENDED.sub("", self._printed).splitlines())

    def _write(self, text: str) -> None:
        assert self._shell.stdin is not None
        self._shell.stdin.write(text.encode())
        self._shell.stdin.flush()

    def _read(self) -> None:
        assert self._shell.stdout is not None
        while data := os.read(self._shell.stdout.fileno(), 65536):
            with self._changed:
                self._printed += data.decode(errors="replace")
                self._changed.notify_all()
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _wait(self, condition, step: Step):  # type: ignore[no-untyped-def]
        deadline = time.monotonic() + PATIENCE
        with self._changed:
            while not (found := condition()):
                if self._closed or not self._changed.wait(deadline - time.monotonic()):
                    self._differ(step, "ended the shell" if self._closed else f"took more than {PATIENCE:g} s")
        return found

    def _differ(self, step: Step, how: str) -> None:
        shown = "\n".join(step.output)
        raise AssertionError(
            f"line {step.line}: {step.command!r} {how}\n--- the page shows\n{shown}\n--- printed\n{self._printed}"
        )
