"""The tests of the contract that are not run through a door, each with its reason; `test_contract` counts them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

MOST: float = 0.05
"""The largest share of the tests that may be skipped."""

_LATER = "a future tells one round of the loop later: what is looked at in the same turn is not there yet"
_MEANWHILE = "threads go on while the test looks"
_TURN = "each call is made in a turn of its own, and sent at once"
_PRIVATE = "looks at what a door does not show"
_TWISTED = "of Deferreds only"
_LOGS = "what a callback raises is logged by asyncio, not by Twisted"

SKIPPED: dict[str, dict[str, str]] = {
    "aio": {
        "test_python_views_raise": _TWISTED,
        "test_l12_reaches_is_a_wait_as_any_other": _TWISTED,
        "test_a_run": _TWISTED,
        "test_a_loss_ends_the_block": _TWISTED,
        "test_python_on_link": _LOGS,
        "test_python_settled_when_its_waits_are_cancelled": _LATER,
        "test_w1_late_settled_means_all_of_a_wake": _LATER,
        "test_w6_closed_before_it_was_ever_connected": _LATER,
        "test_w6_closed_in_a_wake_callback_sends_nothing_more": _LATER,
        "test_w6_closed_in_a_callback_of_on_link": _LATER,
        "test_w6_closed_at_each_step_of_connecting": _LATER,
        "test_failures_closed_while_the_server_hangs": _LATER,
        "test_f3_the_one_doubt_closing_in_an_errback": _LATER,
        "test_watch_closed_before_it_began": _LATER,
        "test_w5_no_leak_a_resolved_wait_leaves_no_timer": "looks at the clock of the installed reactor",
    },
    "blocking": {
        "test_python_views_raise": _TWISTED,
        "test_l12_reaches_is_a_wait_as_any_other": _TWISTED,
        "test_a_run": _TWISTED,
        "test_a_loss_ends_the_block": _TWISTED,
        "test_f3_the_one_doubt_a_cancelled_call": _TURN,
        "test_l12_counts_of_a_moment_share_a_change": _TURN,
        "test_l12_a_lost_answer": _TURN,
        "test_w5_no_leak_cancel_in_the_same_turn_sends_nothing": _TURN,
        "test_w6_closed_in_a_callback_of_its_own_call": _TURN,
        "test_cancelling_drops_what_is_not_sent": _TURN,
        "test_w6_closed": _TURN,
        "test_w6_closed_in_a_wake_callback_sends_nothing_more": _MEANWHILE,
        "test_w6_closed_every_waiter": _MEANWHILE,
        "test_watch_closed_under_it": _MEANWHILE,
        "test_python_statistics": _MEANWHILE,
        "test_python_settled": _MEANWHILE,
        "test_w1_late_settled_means_all_of_a_wake": _MEANWHILE,
        "test_a_call_in_doubt_stays_in_doubt_where_the_server_is_busy": _MEANWHILE,
        "test_w5_no_leak_a_resolved_wait_leaves_no_timer": _PRIVATE,
        "test_w5_a_map_is_known_as_long_as_it_is_of_use": _PRIVATE,
        "test_l13_acks_are_forgotten": _PRIVATE,
    },
}


def skip(door: str, items: Sequence[pytest.Item]) -> None:
    """Mark them."""
    reasons = SKIPPED.get(door, {})
    for item in items:
        reason = reasons.get(item.name.partition("[")[0])
        if reason is not None:
            item.add_marker(pytest.mark.skip(reason=reason))
