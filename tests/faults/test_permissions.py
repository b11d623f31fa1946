"""A permission that is withdrawn for a moment, and given back: waiters stay, as docs/operations.md says."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from twisted.internet.defer import gatherResults

from coord import AccessDenied
from failover.nodes import Witness
from failover.pairs import linked
from faults.alone import LoneServer
from security.rules import rule
from support.cluster import Seen
from support.servers import Word
from support.waiting import turn, until
from support.watcher import Watcher

pytestmark = pytest.mark.deadline(60)

USER = "node"
BEAT = 0.15
WITHDRAWN: dict[str, tuple[Word, ...]] = {
    "its channels": ("resetchannels",),
    "its keys": ("resetkeys",),
    "to read": ("-hmget",),
    "to run scripts": ("-evalsha", "-eval"),
    "everything": ("-@all",),
}


@pytest.mark.parametrize("links", ["up", "cut"])
async def test_w2_waiters_outlast_a_permission_withdrawn(
    server: LoneServer, links: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What another user fires, resets and pulses meanwhile wakes them when the permission is given back."""
    monkeypatch.setattr("coord.link.link._DENIED_RETRY", BEAT)
    await server.begin()
    permitted = ("ACL", "SETUSER", USER, *rule("default", USER))
    await server.command(*permitted)
    async with linked(server.url.replace("://", f"://{USER}:{USER}@"), server.url, heartbeat=BEAT) as (
        waiting,
        calling,
    ):
        watch = Watcher(waiting.events)
        await watch.ready()
        for what, withdrawn in WITHDRAWN.items():

            async def withdraw(withdrawn: tuple[Word, ...] = withdrawn) -> None:
                await server.command("ACL", "SETUSER", USER, *withdrawn)
                if links == "cut":
                    await server.command("CLIENT", "KILL", "USER", USER)

            await _outlast(waiting, calling, what, withdraw, lambda: server.command(*permitted))
        watch.running.addErrback(lambda _: None)
        watch.running.cancel()


async def _outlast(
    waiting: Witness,
    calling: Witness,
    what: str,
    withdraw: Callable[[], Awaitable[None]],
    give_back: Callable[[], Awaitable[None]],
) -> None:
    keys = [f"{what} {number}" for number in range(30)]
    armed = Seen(*(waiting.events[key] for key in keys))
    await waiting.events.armed()
    await withdraw()
    late = Seen(waiting.events[f"{what} late"])
    refused = Seen(waiting.events.fire(f"{what} refused", timeout=20.0))
    await gatherResults([calling.events.fire(key, key) for key in keys[:20]])
    await gatherResults([calling.events.reset(key) for key in keys[:10]])
    await gatherResults([calling.events.pulse(key, key) for key in keys[20:]])
    # It lasts for some heartbeats: that is what it is made of.
    await turn(2.5 * BEAT)
    await give_back()
    await until(lambda: armed.count == len(keys), f"{what}: the waiters are woken")
    assert armed.errors == []
    assert sorted(armed.values) == sorted(keys)
    await calling.events.fire(f"{what} late", "late")
    # Made while it was withdrawn: refused, or woken in the end.
    await until(lambda: late.count, f"{what}: the late one is resolved")
    assert late.values == ["late"] or isinstance(late.errors[0], AccessDenied)
    await until(lambda: refused.count, f"{what}: the call has ended")
    assert all(isinstance(error, AccessDenied) for error in refused.errors)
