"""Signals that come while `coord` still starts."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
from statistics import median

import pytest

from cli.processes import COORD, Shell

# A finder that finds nothing, and sends this process a signal when somebody looks for a certain module.
_SCRIPT = """if True:
    import os, signal, sys

    class Impatience:
        def find_spec(name, path=None, target=None):
            if name == sys.argv[0]:
                os.kill(os.getpid(), getattr(signal, signame))

    signame, *sys.argv = sys.argv[1:]
    sys.meta_path.insert(0, Impatience)
    from coord.cli import main
    main()
    """


def _start(*words: str) -> tuple[int, bytes, bytes]:
    argv = (sys.executable, "-W", "error", "-c", _SCRIPT, *words)
    ended = subprocess.run(argv, capture_output=True, check=False)
    return ended.returncode, ended.stdout, ended.stderr


@pytest.mark.parametrize("name", ["coord.cli._main", "click", "coord.errors", "twisted", "twisted.internet.reactor"])
@pytest.mark.parametrize("signame", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_while_it_starts_ends_it_quietly(signame: str, name: str) -> None:
    """Whatever is being imported when a signal comes: it ends with the signal's code, and no traceback."""
    code = 128 + getattr(signal, signame)
    words = ("get", "m", "k", "--url", "redis://127.0.0.1:1", "--connect-timeout", "100ms")
    assert _start(signame, name, *words) == (code, b"", b"")


def test_only_what_is_small_is_imported_before_that() -> None:
    """Until signals have their handlers, nothing is imported but a part of the standard library."""
    script = """if True:
        import sys
        before = {*sys.modules}
        from coord.cli import _signals
        _signals.leave_at_once = lambda: sys.exit(" ".join({*sys.modules} - before))
        from coord.cli import main
        main()
        """
    ended = subprocess.run((sys.executable, "-c", script), capture_output=True, text=True, check=False)
    imported = {name for name in ended.stderr.split() if name.partition(".")[0] not in sys.stdlib_module_names}
    assert imported == {"coord", "coord.cli", "coord.cli._signals"}


def _cpu(argv: tuple[str, ...], shell: Shell) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(argv, env=shell.env, capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_a_call_takes_little_more_than_the_import_of_the_reactor(shell: Shell) -> None:
    """By CPU, in the same rounds: about as much (benchmarks/start.py), with a margin for what else the machine does."""
    reactor, call = (sys.executable, "-c", "import twisted.internet.reactor"), (*COORD, "fire", "m", "k")
    rounds = [(_cpu(reactor, shell), _cpu(call, shell)) for _ in range(7)]
    assert median(it[1] for it in rounds) < 1.25 * median(it[0] for it in rounds)
