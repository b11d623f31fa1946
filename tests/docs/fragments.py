"""Runs the Python fragments of a page, one after the other, with ``await`` at their top level: ``python fragments.py``.

Standard input holds ``[[name, line, text], ...]`` as JSON; the outputs come in the same order, a mark behind each.
"""

from __future__ import annotations

import ast
import inspect
import json
import sys
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import react


async def run(fragments: list[tuple[str, int, str]]) -> None:
    """Run all of them in one namespace."""
    namespace: dict[str, Any] = {"__name__": "__fragments__"}
    for name, line, text in fragments:
        # The empty lines let a traceback tell the line of the page.
        code = compile("\n" * (line - 1) + text, name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        result = eval(code, namespace)
        if inspect.iscoroutine(result):
            await result
        sys.stdout.write("\x1e")


if __name__ == "__main__":
    wanted = json.load(sys.stdin)
    react(lambda _: Deferred.fromCoroutine(run(wanted)))
