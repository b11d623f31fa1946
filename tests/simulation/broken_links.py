"""Mistakes about servers that are in trouble, or no primary any more, and about the node's own clock."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

from coord.core.subscriptions import Registry
from coord.link.replication import Replication
from simulation.breaking import replace, variant


@variant("a link to what became a replica is kept", "link", "W2")
def _replica_kept(stack: ExitStack) -> None:
    replace(stack, Replication, "differs_from", lambda found, before: "")


@variant("what a busy server puts off counts as refused", "W4", "F3", "watch")
def _put_off_is_refused(stack: ExitStack) -> None:
    for module in ("session.session", "session.reader", "session.call_sender", "session.commands"):
        stack.enter_context(patch(f"coord.{module}.will_pass", lambda words, *, writing: False))


@variant("an armed wait ends where a permission is withdrawn", "W4")
def _armed_and_denied(stack: ExitStack) -> None:
    def failed(table: Registry, channel: bytes, ticket: int | None = None, **_: Any) -> Any:
        return old(table, channel, ticket)

    old = replace(stack, Registry, "failed", failed)


@variant("deadlines go by the time of day", "W1", "W4", "F3", "link")
def _time_of_day(stack: ExitStack) -> None:
    stack.enter_context(patch("simulation.world.own_time", lambda reactor: reactor))
