"""`fire_all`: many events in one call, which ends once with what became of each."""

from __future__ import annotations

from collections import UserDict
from collections.abc import Iterator
from typing import Any

import pytest

from coord import (
    Closed,
    InvalidKey,
    InvalidValue,
    Kind,
    LinkState,
    NotReplicated,
    Record,
    Unconfirmed,
    Unreachable,
    WrongKind,
)
from coord.core.calls import MAX_BATCH_CALLS
from support.cluster import Cluster, Seen, failure_of
from support.waiting import until

MANY = 3 * MAX_BATCH_CALLS


async def test_f1_all_are_applied_in_order(cluster: Cluster) -> None:
    """F1: there is an outcome for each key, in the order of the keys, which is that of the revisions."""
    here, there = await cluster.map("here"), await cluster.map("there")
    await there.fire("k7", "earlier")
    outcomes = await here.fire_all({f"k{number}": number for number in range(MANY)})
    assert list(outcomes) == [f"k{number}" for number in range(MANY)]
    records = {key: applied.record for key, applied in outcomes.items()}
    assert [key for key, applied in outcomes.items() if not applied.first] == ["k7"]
    earlier = records.pop("k7")
    assert earlier is not None
    assert (earlier.value, earlier.node) == ("earlier", "there")
    revisions = [record.revision for record in records.values() if record is not None]
    assert revisions == sorted(set(revisions))
    assert await there.record("k8") == records["k8"]


async def test_nothing_to_fire(cluster: Cluster) -> None:
    """Without keys, it is done at once."""
    events = await cluster.map()
    assert await events.fire_all({}) == {}


class _Form(UserDict[str, object]):
    """A mapping that names a key twice, as the fields of an HTML form are."""

    def __iter__(self) -> Iterator[str]:
        return iter([*self.data, *self.data])

    def __len__(self) -> int:
        return 2 * len(self.data)

    def items(self) -> Any:
        """Return the pairs, with another value first."""
        return [*((key, "first") for key in self.data), *self.data.items(), ("more", 1)]


async def test_a_mapping_of_another_kind(cluster: Cluster) -> None:
    """Its pairs count, and nothing else that it says of itself: a call for each key, with its last value."""
    events = await cluster.map()
    outcomes = await events.fire_all(_Form({"a": 1, "b": 2}), timeout=5)
    assert [(key, applied.first) for key, applied in outcomes.items()] == [("a", True), ("b", True), ("more", True)]
    assert await events.wait_all(["a", "b", "more"]) == {"a": 1, "b": 2, "more": 1}


async def test_bad_input_sends_nothing(cluster: Cluster) -> None:
    """A key or a value that is none is an error before any of them is sent."""
    events = await cluster.map()
    with pytest.raises(InvalidKey):
        events.fire_all({"a": 1, "": 2})
    with pytest.raises(InvalidValue):
        events.fire_all({"a": 1, "b": object()})
    assert await events.record("a") is None


async def test_the_first_error_is_raised_once_all_are_answered(cluster: Cluster) -> None:
    """A call that fails does not keep the others from being applied; the error says how many failed."""
    events = await cluster.map()
    await events.count("counter")
    with pytest.raises(WrongKind) as raised:
        await events.fire_all({"a": 1, "counter": 2, "b": 3})
    assert raised.value.__notes__ == ["1 of 3 calls failed"]
    assert await events.wait_all(["a", "b"]) == {"a": 1, "b": 3}


async def test_w7_own_waiters_come_first(cluster: Cluster) -> None:
    """W7: this node's waiters have been called when it ends."""
    events = await cluster.map()
    seen = Seen(*(events[f"k{number}"] for number in range(3)))
    await events.fire_all({f"k{number}": number for number in range(3)})
    assert seen.values == [0, 1, 2]


async def test_l11_all_may_have_a_ttl(cluster: Cluster) -> None:
    """L11: each event ends by itself."""
    events = await cluster.map()
    await events.fire_all({"a": 1, "b": 2}, ttl=0.1)
    for key in ("a", "b"):
        record = await events.gone(key, timeout=10)
        assert record is not None
        assert record.kind is Kind.EXPIRED


@pytest.mark.servers("memory")
async def test_f3_the_deadline_is_of_all(cluster: Cluster) -> None:
    """F3: without a link, none was applied when the time is over."""
    events, gate = await cluster.gated()
    gate.shut()
    await cluster.state(cluster.of(events), LinkState.SUSPENDED)
    with pytest.raises(Unreachable) as raised:
        await events.fire_all({"a": 1, "b": 2}, timeout=0.05)
    assert raised.value.__notes__ == ["2 of 2 calls failed"]
    gate.open()
    assert await events.record("a") is None


@pytest.mark.servers("memory")
async def test_f4_each_is_replicated(cluster: Cluster) -> None:
    """F4: a server without replicas has applied all of them, and none is replicated."""
    events = await cluster.map()
    with pytest.raises(NotReplicated) as raised:
        await events.fire_all({"a": 1, "b": 2}, replicas=1, within=0.05)
    assert raised.value.__notes__ == ["2 of 2 calls failed"]
    assert await events.wait_all(["a", "b"]) == {"a": 1, "b": 2}


@pytest.mark.servers("memory")
async def test_f2_a_cut_repeats_none(cluster: Cluster) -> None:
    """F2: the answers are lost, and each is applied once."""
    events, gate = await cluster.gated()
    there = await cluster.map("there")
    # The server knows the script then.
    await events.fire("before")
    gate.stall()
    seen = Seen(events.fire_all({f"k{number}": number for number in range(MANY)}))
    await there.wait("k0")
    gate.cut()
    gate.open()
    await until(lambda: seen.count == 1)
    (outcomes,) = seen.values
    assert all(applied.first for applied in outcomes.values())
    history: list[str] = []
    async with there.watch("k", since="start") as changes:
        while len(history) < MANY:
            change = await changes.__anext__()
            history += [change.key] if isinstance(change, Record) else []
    assert history == list(outcomes)


async def test_cancelling_drops_what_is_not_sent(cluster: Cluster) -> None:
    """What was not sent yet is never sent, and the cancelled Deferred is resolved once."""
    events = await cluster.map()
    firing = events.fire_all({"a": 1, "b": 2})
    seen = Seen(firing)
    firing.cancel()
    assert [type(error).__name__ for error in seen.errors] == ["CancelledError"]
    await events.fire("c")
    assert await events.record("a") is None
    assert seen.count == 1


@pytest.mark.servers("memory")
async def test_cancelling_in_the_middle(cluster: Cluster) -> None:
    """What was sent may be applied, and its outcome is ignored; what was not sent is dropped."""
    events, gate = await cluster.gated()
    there = await cluster.map("there")
    # The server knows the script then.
    await events.fire("before")
    gate.stall()
    firing = events.fire_all({f"k{number}": number for number in range(MANY)})
    seen = Seen(firing)
    await there.wait("k0")
    firing.cancel()
    gate.resume()
    await events.fire("c")
    assert seen.count == 1
    assert await events.record(f"k{MANY - 1}") is None


async def test_w6_closed(cluster: Cluster) -> None:
    """W6: closing fails it, and what is asked later."""
    node = await cluster.linked()
    events = node.events("m")
    seen = Seen(events.fire_all({"a": 1, "b": 2}))
    await node.close()
    assert [type(error) for error in seen.errors] == [Closed]
    assert type(failure_of(events.fire_all({"a": 1}))) is Closed


@pytest.mark.servers("memory")
async def test_f4_w5_a_cancelled_one_is_counted_no_more(cluster: Cluster) -> None:
    """F4, W5: what waits for its replicas only is not kept for a caller who is gone."""
    events = await cluster.map()
    firing = events.fire_all({"a": 1, "b": 2}, replicas=1, within=60)
    seen = Seen(firing)
    await events.wait_all(["a", "b"])
    firing.cancel()
    await until(lambda: cluster.of(events).statistics().pending_calls == 0)
    assert seen.count == 1


@pytest.mark.servers("memory")
async def test_f3_a_doubt_is_told_of(cluster: Cluster) -> None:
    """F3: if some were not sent, and others not answered, the error is not the one that means not applied."""
    events, gate = await cluster.gated(heartbeat=30)
    there = await cluster.map("there")
    # The server knows the script then.
    await events.fire("before")
    gate.stall()
    late = Seen(events.fire_all({f"k{number}": number for number in range(MANY)}, timeout=0.2))
    await there.wait("k0")
    await until(lambda: late.count == 1)
    assert [type(error) for error in late.errors] == [Unconfirmed]
    assert late.errors[0].__notes__ == [f"{MANY} of {MANY} calls failed"]
