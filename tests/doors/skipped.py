"""The tests of the contract that are not run through a door, each with its reason; `test_contract` counts them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

MOST: float = 0.05
"""The largest share of the tests that may be skipped."""

_LATER = "a future tells one round of the loop later: what is looked at in the same turn is not there yet"
_THREADS = "threads learn of an end in no certain order, and not in the same turn"
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
        "test_w1_late_settled_means_all_of_a_wake": _THREADS,
        "test_w3_once_fire_in_a_wake_callback": _THREADS,
        "test_w4_alone_cancelling_waiters_of_other_keys_in_a_callback": _THREADS,
        "test_watch_closed_under_it": _THREADS,
        "test_watch_closed_before_it_began": _THREADS,
        "test_w2_no_lost_wakeup_where_the_data_has_gone": _THREADS,
        "test_a_close_answers_what_was_sent": _THREADS,
        "test_a_close_answers_what_was_not_sent": _THREADS,
        "test_a_run": _TWISTED,
        "test_a_loss_ends_the_block": _TWISTED,
    },
}


def skip(door: str, items: Sequence[pytest.Item]) -> None:
    """Mark them."""
    reasons = SKIPPED.get(door, {})
    for item in items:
        reason = reasons.get(item.name.partition("[")[0])
        if reason is not None:
            item.add_marker(pytest.mark.skip(reason=reason))
