"""Completion: what a shell asks when the user presses TAB, and the names of maps and keys that a server has now.

Each shell has a script in ``shells``. It sends the line up to the cursor in COORD_LINE, and gets a line for each
proposal: the word, US, and a help text; no word, US and "files" stand for the names of files.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

import click
from click.shell_completion import CompletionItem, ShellComplete, add_completion_class, split_arg_string

from coord.cli._command import RunningCommand
from coord.cli._commands import COMMANDS

if TYPE_CHECKING:
    from coord import Coordinator

__all__ = ["SHELLS", "key_names", "map_names", "register", "script"]

SHELLS: Final = ("bash", "zsh", "fish")
_WITHIN: Final = 1.0
"""Seconds for the server, from the first byte to its answer: a user waits."""
_MOST: Final = 200
_US: Final = "\x1f"
# It cannot be part of a line.
_CURSOR: Final = "\0"

Question = Callable[["Coordinator"], Coroutine[Any, Any, list[str]]]


def script(shell: str) -> str:
    """Return the script for a shell."""
    return (files("coord.cli") / "shells" / shell).read_text(encoding="utf-8")


def register() -> None:
    """Make click speak with our scripts."""
    for shell in SHELLS:
        add_completion_class(type(shell, (_Completion,), {"name": shell}))


class _Completion(ShellComplete):
    def get_completion_args(self) -> tuple[list[str], str]:
        # With a mark at its end the last word is the one at the cursor, also behind a blank or within quotes.
        *words, last = split_arg_string(os.environ["COORD_LINE"] + _CURSOR)
        return words[1:], last.removesuffix(_CURSOR)

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem[str]]:
        if "--" in args and self._runs_a_command(args):
            return [CompletionItem("", type="file")]
        try:
            found = super().get_completions(args, incomplete)
        except click.ClickException:
            return []
        # Bash replaces only what is behind the last of these.
        begun = max(
            (incomplete.rfind(each) + 1 for each in os.environ.get("COORD_BREAKS", "") if each in ":="), default=0
        )
        for item in found:
            if begun and item.value.startswith(incomplete[:begun]) and not self._quoted():
                item.value = item.value[begun:]
        return found

    def format_completion(self, item: CompletionItem[str]) -> str:
        text = " ".join((item.help or "").split())
        return f"{_US}files" if item.type == "file" else f"{item.value}{_US}{text}"

    def _runs_a_command(self, args: list[str]) -> bool:
        name = next((word for word in args if word in COMMANDS), None)
        with click.Context(self.cli) as ctx:
            return isinstance(self.cli, click.Group) and isinstance(
                self.cli.get_command(ctx, name or ""), RunningCommand
            )

    def _quoted(self) -> bool:
        """Whether the word at the cursor begins with a quote."""
        return os.environ["COORD_LINE"].rpartition(" ")[2][:1] in ("'", '"')


def map_names(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Return the maps of the namespace that begin so; none if the server does not say."""

    async def ask(coordinator: Coordinator) -> list[str]:
        return [name for name in await coordinator.maps() if name.startswith(incomplete)]

    return _ask(ctx, ask)


def key_names(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Return keys of the map on the line that begin so; none if the server does not say."""
    map_name = ctx.params.get("map_name")
    if not map_name:
        return []

    async def ask(coordinator: Coordinator) -> list[str]:
        found: list[str] = []
        async for page in coordinator.events(map_name).pages(incomplete):
            found += [record.key for record in page.records]
            if len(found) >= _MOST:
                break
        return sorted(found)[:_MOST]

    return _ask(ctx, ask)


def _ask(ctx: click.Context, question: Question) -> list[str]:
    """Return the answer of the server; nothing if it takes too long, or goes wrong."""
    found: list[str] = []

    async def work(reactor: Any, _end: object) -> int:
        from twisted.internet.defer import Deferred

        coordinator = server.connect(reactor)
        found.extend(await Deferred.fromCoroutine(question(coordinator)).addTimeout(_WITHIN, reactor))
        return 0

    # Whatever goes wrong, nothing may be printed into the line that is being typed.
    with open(os.devnull, "w", encoding="utf-8") as nowhere:  # noqa: PTH123
        os.dup2(nowhere.fileno(), 2)
    try:
        from coord.cli._connection import Server
        from coord.cli._running import run_work

        server = Server(**ctx.ensure_object(dict))
        run_work(work)
    except Exception:  # noqa: BLE001
        return []
    return found
