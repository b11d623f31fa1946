"""Commands that run one after the other, each under a guard and as a job of the user's shell."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping, Sequence
from math import inf
from types import TracebackType
from typing import Any, Final

from coord.cli import _signals
from coord.cli._guarded import GuardedCommand, Guards
from coord.cli._jobs import JobControl
from coord.core.quoting import quoted

__all__ = ["Commands"]

# The command may use these, coord does not.
_PASSED_ON: Final = (signal.SIGUSR1, signal.SIGUSR2)


class Commands:
    """Runs ``argv`` again and again; as a context manager, it ends the guards.

    :param grace: seconds between SIGTERM and SIGKILL when coord ends a command.
    :param held: descriptors that stay open until the last command has ended, also if coord is killed.
    :param exclusive: nothing of a command outlives its time: what it leaves behind is ended too, before `run` returns,
        and whether coord or one of its guards is stopped or killed, the others do that. See `left`.
    """

    left = False
    """Whether processes of the last exclusive command could not be ended, as they run as another user."""

    def __init__(
        self, reactor: Any, argv: Sequence[str], grace: float, held: Sequence[int] = (), *, exclusive: bool = False
    ) -> None:
        self._reactor = reactor
        self._argv = argv
        self._grace = grace
        self._guards = Guards(held, exclusive=exclusive)
        self._jobs = JobControl(reactor, quoted(argv[0]))
        self._running: GuardedCommand | None = None
        _signals.catch(_PASSED_ON, self._pass_on)

    def __enter__(self) -> Commands:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._guards.close()
        self._jobs.close()

    async def run(
        self,
        variables: Mapping[str, str | None],
        data: bytes | None = None,
        *,
        deadline: float = inf,
        on_due: Callable[[], None] = lambda: None,
    ) -> int:
        """Run it with these variables; return its exit code. If coord is ended, end it first.

        :param data: what it reads from its stdin; by default it has coord's.
        :param deadline: when it is killed at the latest, on the reactor's clock; `extend` moves it. It gets SIGTERM so
            much earlier as ``grace`` says, and ``on_due`` is called.
        :raises CannotRun: it cannot be run.
        """
        self._running = running = GuardedCommand(self._reactor, self._guards, self._jobs.on_stop, on_due)
        terminal = self._jobs.begin(running)
        running.run(self._argv, variables, data, terminal=terminal, deadline=deadline, grace=self._grace)
        try:
            status = self._jobs.judge(await running.ended)
            if self._guards.exclusive:
                await running.gone.wait()
        except BaseException:
            await running.end(self._grace)
            raise
        else:
            return status
        finally:
            self.left = self._guards.exclusive and not running.gone.fired
            self._running = None
            self._jobs.end()

    def extend(self, deadline: float) -> None:
        """Move the deadline of the command that runs."""
        if self._running is not None:
            self._running.extend(deadline)

    def _pass_on(self, signum: int, _frame: object) -> None:
        if self._running is not None:
            self._running.signal(signum)
