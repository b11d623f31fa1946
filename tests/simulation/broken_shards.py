"""Mistakes with a cluster's slots."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from importlib import import_module
from typing import Any

from coord.core.slots import Redirect, Refusal
from coord.link.map_link import MapLink
from coord.link.replies import ServerError
from coord.link.scripts import BEAT, SWEEP
from coord.session.holds import Holds
from coord.session.replicas import Replicas
from simulation.breaking import replace, rewrite, variant

broken = partial(variant, sharded=True)


@broken("a subscription that the server has ended is kept", "W1", "W2", "W5", "watch", "recovers")
def _kept(stack: ExitStack) -> None:
    replace(stack, MapLink, "left", lambda _: None)


@broken("TRYAGAIN ends a call", "F3", "hold", "lock", "L12")
def _for_good(stack: ExitStack) -> None:
    call_sender: Any = import_module("coord.session.call_sender")
    old = call_sender.will_pass

    def will_pass(message: str, *, writing: bool) -> bool:
        return not message.startswith("TRYAGAIN") and bool(old(message, writing=writing))

    replace(stack, call_sender, "will_pass", will_pass)


@broken("TRYAGAIN is taken for a lost link", "link", "F3", "recovers")
def _try_again_is_a_loss(stack: ExitStack) -> None:
    def refusal(self: Any, failure: Any, *, here: bool, of_records: bool) -> Any:
        if here and failure.check(ServerError) and str(failure.value).startswith("TRYAGAIN"):
            self.shard.link.abandon(str(failure.value))
        return old(self, failure, here=here, of_records=of_records)

    old = replace(stack, MapLink, "_refusal", refusal)


@broken("a map is taken for home without a read", "link")
def _unread(stack: ExitStack) -> None:
    def shard_up(self: Any) -> None:
        connections = self._connections
        if connections is not None:
            passed = connections.maps.mark()
            passed.addCallbacks(self._found, self._not_found, callbackArgs=(self._stay,), errbackArgs=(self._stay,))

    replace(stack, MapLink, "shard_up", shard_up)


@broken("a heartbeat does not read the maps", "W1", "W2", "watch")
def _unread_beat(stack: ExitStack) -> None:
    # Sweeping a map would tell as well.
    replace(stack, MapLink, "heartbeat", lambda _: None)


@broken("an error is taken for the oldest request's", "link")
def _by_place(stack: ExitStack) -> None:
    connections: Any = import_module("coord.link.shard_connections")

    def refused(self: Any, listener: Any, message: str) -> None:
        if self._open:
            request = self._open.pop(0)
            self._confirmations += 1
            subscribing = request.verb.lower() in (b"subscribe", b"ssubscribe")
            (listener.subscribe_refused if subscribing else listener.unsubscribe_refused)(request.channels, message)

    replace(stack, connections.ShardSubscriber, "_refused", refused)


@broken("all maps of a server are dropped for CLUSTERDOWN", "link")
def _dropped(stack: ExitStack) -> None:
    map_link: Any = import_module("coord.link.map_link")
    old = map_link.means_another_server

    def means_another_server(message: str) -> bool:
        return message.startswith("CLUSTERDOWN") or bool(old(message))

    replace(stack, map_link, "means_another_server", means_another_server)


@broken("PING comes between ASKING and its command", "link", "recovers", "W5")
def _asking_eaten(stack: ExitStack) -> None:
    protocol: Any = import_module("coord.link.protocol")

    def ask_as_guest(self: Any, *args: bytes, others_first: bool = False) -> Any:
        if not others_first:
            return old(self, *args)
        self.ask(b"ASKING")
        return self.ask(*args, others_first=True)

    old = replace(stack, protocol.CommandConnection, "ask_as_guest", ask_as_guest)


@broken("a map that has come is subscribed to again, and not read", "W1", "W2", "watch", "L10", "L12")
def _not_read_again(stack: ExitStack) -> None:
    def left(self: Any) -> None:
        if self.up and self._connections is not None and self._channels:
            self._connections.maps.join(self.slot, list(self._channels), guest=self.guest)

    replace(stack, MapLink, "left", left)


@broken("what ASK says is taken for an assignment", "link", "recovers", "W2", "F3")
def _ask_is_moved(stack: ExitStack) -> None:
    def follow(self: Any, redirect: Redirect, message: str) -> None:
        old(self, redirect._replace(refusal=Refusal.MOVED), message)

    old = replace(stack, MapLink, "_follow", follow)


@broken("a guest reads where the table says", "link", "recovers", "F3")
def _reads_at_home(stack: ExitStack) -> None:
    def send(self: Any, command: Any, *args: bytes, others_first: bool = False) -> Any:
        guest = self.guest and args[0] != b"HMGET"
        return (command.ask_as_guest if guest else command.ask)(*args, others_first=others_first)

    replace(stack, MapLink, "_send", send)


@broken("the end of a subscription that nobody asked for is taken for an answer", "W1", "W2", "W5", "recovers", "link")
def _push_is_an_answer(stack: ExitStack) -> None:
    shard_connections: Any = import_module("coord.link.shard_connections")

    def confirmed_by(self: Any, listener: Any, verb: bytes, channel: bytes) -> None:
        pushed = not any(each.verb.lower() == verb and channel in each.missing for each in self._open)
        if pushed and verb == b"sunsubscribe" and self._open:
            channel = self._open.pop(0).channels[0]
            self._confirmations += 1
            listener.unsubscribed(channel)
        else:
            old(self, listener, verb, channel)

    old = replace(stack, shard_connections.ShardSubscriber, "_confirmed_by", confirmed_by)


@broken("a lock is granted as soon as its map has come", "L5", "L6")
def _granted_after_a_move(stack: ExitStack) -> None:
    rewrite(stack, ("or history ~= actual\n", "\n"))
    for script in (BEAT, SWEEP):
        rewrite(stack, ("if run ~= clock.run or not fresh then", "if false then"), script=script)


@broken("what is held is not renewed where its map has come", "L1", "L3", "L4", "L6", "recovers")
def _not_renewed_there(stack: ExitStack) -> None:
    first: dict[int, Any] = {}

    def heartbeat(holds: Any) -> None:
        address = holds._commands._link.shard.address
        if first.setdefault(id(holds), address) == address:
            old(holds)

    old = replace(stack, Holds, "heartbeat", heartbeat)


@broken("a guest that calls tells nobody at the other server", "W2")
def _no_call_across(stack: ExitStack) -> None:
    replace(stack, MapLink, "call_across", lambda *_: None)


@broken("a map goes where a server says that its slot is, without a look", "link")
def _without_a_look(stack: ExitStack) -> None:
    replace(stack, MapLink, "_look_at", lambda self, shard: self._serves(None, shard, self._stay))


@broken("a call is acknowledged though its replica is behind", "F4")
def _not_replicated(stack: ExitStack) -> None:
    replace(stack, Replicas, "add", lambda _, call, applied: call.result.callback(applied))


@broken("a call that was refused is in doubt", "F3")
def _refused_in_doubt(stack: ExitStack) -> None:
    call_sender: Any = import_module("coord.session.call_sender")
    # No error is one of these.
    replace(stack, call_sender, "LinkLeft", NotImplementedError)
