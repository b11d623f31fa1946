"""Mistakes about whose data they are, what messages are worth, and what stays on the server."""

from __future__ import annotations

from contextlib import ExitStack

from coord.core.keys import KeyTable
from coord.core.maps import MapState
from coord.core.records import Revision
from coord.core.subscriptions import Registry
from coord.session.sweeper import Sweeper
from simulation.breaking import replace, rewrite, variant


@variant("what a message claims is told to the server", "forged")
def _told_to_the_server(stack: ExitStack) -> None:
    def note_record(table: KeyTable, map_state: MapState, revision: Revision) -> None:
        map_state.note_seen(revision)
        old(table, map_state, revision)

    old = replace(stack, Registry, "note_record", note_record)


@variant("what a message claims is believed for good", "W4", "W8")
def _never_verified(stack: ExitStack) -> None:
    replace(stack, KeyTable, "verify", lambda table: None)


@variant("an outcome keeps the value", "kept")
def _value_kept(stack: ExitStack) -> None:
    rewrite(
        stack,
        (
            "remembered[i] = outcomes[i] .. #header .. ':' .. header",
            "remembered[i] = outcomes[i] .. #record .. ':' .. record",
        ),
    )


@variant("what is due is forgotten by calls on the same map alone", "kept")
def _never_swept(stack: ExitStack) -> None:
    replace(stack, Sweeper, "sweep", lambda sweeper: None)
