"""A forked `coord` is a process as one with an interpreter of its own is."""

from __future__ import annotations

import signal

import pytest

from cli.processes import Ended, Shell

# Descriptors, signals, group and session, folder, limits and environment.
_LOOK = """
    ls /proc/self/fd; grep -E '^Sig(Ign|Blk|Cgt)' /proc/self/status; cut -d' ' -f5-8 /proc/self/stat; pwd; ulimit -a
    env | grep -v ^_=
"""
_COMMANDS: list[tuple[str, ...]] = [
    ("fire", "m", "é\udcff"),
    ("fire", "m", "k", "-"),
    ("wait", "m", "k", "--", "sh", "-c", _LOOK),
    ("on", "m", "--since", "start", "--", "sh", "-c", "cat; ls /proc/self/fd; exit 9"),
    ("wait", "m", "k", "--", "sh", "-c", "kill -9 $$"),
    ("get", "m", "k", "--timeout", "soon"),
    ("watch", "--help"),
]


def _both(shell: Shell, *words: str) -> tuple[Ended, Ended]:
    assert shell.forks is not None
    assert shell.forks.serve(shell.env)
    return shell.run(*words, stdin=b"7"), Shell(shell.env).run(*words, stdin=b"7")


@pytest.mark.parametrize("words", _COMMANDS, ids=lambda words: " ".join(words[:2]))
def test_it_does_what_another_does(shell: Shell, words: tuple[str, ...]) -> None:
    """Both print and exit the same, and hand the same on to a command."""
    shell.do("fire", "m", "k", "7")
    forked, own = _both(shell, *words)
    assert forked == own


def test_it_is_a_process_of_its_own(shell: Shell) -> None:
    """It has a pid, which CMD takes over, and its status tells the signal that killed it."""
    shell.do("fire", "m", "k")
    running = shell.start("wait", "m", "k", "--", "sh", "-c", "echo $$")
    assert running.end().out == f"true\n{running.popen.pid}\n"
    waiting = shell.start("wait", "m", "other").says("armed")
    assert waiting.popen.poll() is None
    assert waiting.end(signal.SIGKILL).status == -signal.SIGKILL
