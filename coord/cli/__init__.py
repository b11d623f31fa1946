"""The command line.

`_commands.COMMANDS` lists the commands and the module of each. What they share starts with an underscore:

- `_utf8`: before all else, what the locale must not decide;
- `_main`: from argv to an exit status; `_exits`: the one place that maps errors to statuses;
- `_command`, `_arguments`, `_connection`, `_values`, `_entries`, `_since`: from words to what a command works with;
- `_usage`: what is said of a line that cannot be understood;
- `_running`: a coroutine under the reactor, ended in order by its end, a signal or a closed pipe;
- `_reaching`, `_calling`: the way to the server, and what becomes of calls;
- `_output`, `_printing`, `_table`, `_talk`: standard output, what is printed there, what stderr is told;
- `_guarded`, `_guard`: a command that is run, and the process that ends it when coord has gone;
- `_jobs`, `_terminal`: what the command shares with coord on a terminal;
- `_children`: the command that this process becomes;
- `_cursor`: where `on` stands.

Nothing here imports Twisted or the Redis client before a command needs a server, so that ``coord --help``, a mistyped
option and the TAB key answer at once. So what coord raises is named ``coord.Unreachable``, and not imported.
"""

import gc
from typing import NoReturn

__all__ = ["main"]


def main() -> NoReturn:
    """Run the command in ``sys.argv`` and leave with its exit status."""
    # First of all, before what takes time: an impatient Ctrl-C must not be greeted with a traceback.
    from coord.cli import _signals

    _signals.leave_at_once()
    from coord.cli import _utf8

    _utf8.use_utf8()
    # What is imported stays: to look through it for garbage, again and again, is a tenth of what a call takes.
    gc.disable()
    from coord.cli._main import run

    run()
