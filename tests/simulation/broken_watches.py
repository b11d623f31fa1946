"""Mistakes about watches."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any
from weakref import WeakKeyDictionary

from coord.client.watch import Watch
from coord.core.history import Cursor
from coord.core.records import NEVER
from simulation.breaking import replace, variant


@variant("a watch goes on over a gap", "watch", "link")
def _gap(stack: ExitStack) -> None:
    def advance(cursor: Cursor, lines: Any, head: Any) -> bool:
        if lines:
            cursor.position = lines[-1].revision
        elif head is not None or cursor.position is None:
            cursor.position = head.revision if head else NEVER
        return True

    replace(stack, Cursor, "advance", advance)


@variant("a watch begins again when the link is back", "watch")
def _watch_begins_again(stack: ExitStack) -> None:
    links: WeakKeyDictionary[Watch, Any] = WeakKeyDictionary()

    async def fetch(watch: Watch) -> None:
        link: Any = watch._session.link
        pair = link.connections
        if links.setdefault(watch, pair) is not pair:
            links[watch] = pair
            watch._cursor.position = None
        await old(watch)

    old = replace(stack, Watch, "_fetch", fetch)


@variant("a watch that begins now reads before it listens", "watch", "link")
def _now_is_late(stack: ExitStack) -> None:
    async def enter(watch: Watch) -> Watch:
        entered: Watch = await old(watch)
        watch._cursor.position = None
        return entered

    old = replace(stack, Watch, "__aenter__", enter)
