"""The command line.

`_commands.COMMANDS` lists the commands and the module of each. What they share starts with an underscore:

- `_utf8`: UTF-8 mode, set before anything else;
- `_main`: from argv to an exit status; `_exits`: the one place that maps errors to statuses;
- `_command`, `_arguments`, `_connection`, `_values`, `_entries`, `_since`: arguments and options, parsed;
- `_usage`: the messages for usage errors;
- `_job`: what a command's coroutine works with;
- `_running`: that coroutine under the reactor, until it returns, a signal arrives or its pipe closes;
- `_reaching`, `_calling`: reach the server, make calls and report them;
- `_output`, `_printing`, `_table`, `_talk`: standard output, what is printed there, and stderr;
- `_guarded`, `_guard`: a child command, and the processes that end it when coord has ended or its time is over;
- `_jobs`, `_terminal`: job control, and the terminal that coord and the command share;
- `_queueing`: what is said while it waits for a lock;
- `_children`: the command that this process becomes;
- `_cursor`: the position of `on`;
- `_looking`, `_queueing`: how a wait stands;
- `_completing`, `_manual`: completion, and the manual pages;
- `_notify`, `_units`: what a service manager is told, and the units of systemd.

Nothing here imports Twisted or the Redis client before a command needs a server, so that ``coord --help``, a mistyped
option and the TAB key answer at once. So modules here write ``coord.Unreachable``, and do not import the error.
"""

import gc
from typing import NoReturn

__all__ = ["main"]


def main() -> NoReturn:
    """Run the command in ``sys.argv`` and leave with its exit status."""
    # Before the slow imports: a Ctrl-C during them must not show a traceback.
    from coord.cli import _signals

    _signals.leave_at_once()
    from coord.cli import _utf8

    _utf8.use_utf8()
    # Imported objects are never garbage, and collecting over them takes a tenth of the time of a call.
    gc.disable()
    from coord.cli._main import run

    run()
