"""What breaks where there is one server, or two that take themselves for it, and what mends it."""

from __future__ import annotations

import json
from typing import Literal

from coord.core.records import Kind, Revision
from simulation.faults import Faults
from simulation.history import Forgery, Trouble
from simulation.servers import Mark, SimServer
from simulation.single import SingleNode, SingleWorld
from simulation.steps import UNMENDED

__all__ = ["LAGS", "SingleFaults"]

# Seconds by which a host's clock is set.
_JUMPS = (-7_200.0, -60.0, -2.0, 0.5, 60.0, 7_200.0)
# Seconds. What clocks go forward, steps and promotions together, stays well under the hour for which a server remembers
# outcomes and pending keys' records: it forgets them by its clock, and then nobody can tell a repetition.
_CLOCK_STEPS = (0.001, 1.0, 60.0, 600.0, -1.0, -60.0, -3600.0)
_FORWARD = 1_500.0
# Of what kind a server's trouble is: those that pass come most.
_TROUBLES = (
    *("busy", "busy", "busy", "loading", "masterdown", "tryagain", "tryagain"),
    *("oom", "misconf", "noreplicas"),
    *(() if "denied" in UNMENDED else ("noperm", "no reads", "no subscribing")),
)
# Seconds; None: never.
LAGS = (0, 0.05, 0.5, 3.0, None, None)
_KINDS = (Kind.FIRED, Kind.FAILED, Kind.PULSED, Kind.RESET)
# Bytes of a head and what else an answer has beside values.
_SMALL = 400
_SKEWS = (0.0, 0.0, 0.5, -0.5, 30.0, -30.0)
# When a primary that is cut off takes no more writes, in grace times after the promotion.
_NOTICED = (0.0, 0.5, 0.9)


class SingleFaults(Faults):
    """The verbs of one server. Numbers stand for what there is: they are reduced to it."""

    world: SingleWorld

    def __init__(self, world: SingleWorld) -> None:
        super().__init__(world)
        self._forward = 0.0
        # Those whose clock is ahead since it was rocked.
        self._rocked: set[SimServer] = set()
        # Primaries that have noticed that no replica follows them.
        self._alone: set[SimServer] = set()

    def jump(self, a: int, b: int) -> None:
        """Set the clock of a node's host, which its reactor goes by."""
        node = self.world.nodes[a % len(self.world.nodes)]
        self.note("node's clock stepped")
        node.wall.step(_JUMPS[b % len(_JUMPS)])

    # Servers. An odd number means the old one, where there is one.

    def _server(self, number: int) -> SimServer:
        other = self.world.other
        return other if other is not None and number % 2 else self.world.primary

    def stop(self, a: int) -> None:
        """Kill a server; it keeps its data."""
        server = self._server(a)
        if server.running:
            self.note("server stopped")
            self._answer_again()
            server.stop()

    def start(self, a: int) -> None:
        """Start the primary again: with its data, or (rarely) without."""
        primary = self.world.primary
        if primary.running:
            return
        if a % 4 == 3:
            self.note("server started empty")
            primary.take(None)
        self._start(primary)

    def _start(self, server: SimServer) -> None:
        # A script that held up the process has gone with it.
        self._trouble(server, "")
        # Another process comes later than the last one, if only by a little.
        server.step_clock(0.001)
        server.start()

    def restart(self, a: int) -> None:
        """Kill the primary and start it at once."""
        self.stop(0)
        self.start(a)

    def hang(self, a: int) -> None:
        """Stop a server's process: it accepts, and answers nothing."""
        server = self._server(a)
        if server.running and not server.hung:
            self.note("server hangs")
            server.hang()
            for node in self.world.nodes if self.world.other is None else ():
                self._silence(node, "hang")

    def resume(self, a: int) -> None:
        """Continue a server's process."""
        server = self._server(a)
        if server.hung:
            self._answer_again()
            server.resume()

    def _answer_again(self) -> None:
        for node in self.world.nodes:
            self._speak(node, "hang")

    def drop(self, a: int, b: int) -> None:
        """Have a server close connections, by kind."""
        server = self._server(a)
        kinds: tuple[Literal["all", "subscribers", "commands"], ...] = ("all", "subscribers", "commands")
        self.note("server dropped connections")
        server.drop_connections(kinds[b % 3])

    def flush(self) -> None:
        """Forget all data, under everybody's feet."""
        self.note("data flushed")
        self.world.primary.take(None)
        self.world.primary.step_clock(0.001)

    def scripts(self) -> None:
        """Forget all scripts."""
        self.note("scripts flushed")
        self.world.primary.script_flush()

    def trim(self, a: int) -> None:
        """Forget all but the last lines of the history."""
        self.note("history trimmed")
        self.world.primary.trim(a % 4)

    def step(self, a: int, b: int) -> None:
        """Set a server's clock."""
        seconds = _CLOCK_STEPS[b % len(_CLOCK_STEPS)]
        if self._may_gain(seconds):
            self.note("clock stepped")
            self._server(a).step_clock(seconds)

    def rock(self, a: int) -> None:
        """Set a server's clock a little ahead, or back again: it counts once, however often."""
        server = self._server(a)
        ahead = server in self._rocked
        seconds = 0.7 * self.world.setup.grace
        self.note("clock rocks")
        server.step_clock(-seconds if ahead else seconds)
        (self._rocked.discard if ahead else self._rocked.add)(server)

    def _may_gain(self, seconds: float) -> bool:
        """Whether the data may find their clock so much further, all of a sudden; if so, it is counted."""
        gained = self._forward + max(0.0, seconds)
        allowed = gained <= _FORWARD
        if allowed:
            self._forward = gained
        return allowed

    def memory(self, a: int) -> None:
        """Be out of memory, or no longer."""
        self.note("out of memory")
        self._trouble(self.world.primary, "oom" if a % 2 else "")

    def load(self, a: int) -> None:
        """Be loading data, or no longer."""
        self.note("loading")
        self.world.primary.loading = bool(a % 2)

    def refuse(self, a: int, b: int) -> None:
        """Refuse what a server in some kind of trouble refuses."""
        self._trouble(self._server(a), _TROUBLES[b % len(_TROUBLES)])

    def serve(self, a: int) -> None:
        """Refuse nothing any more."""
        self._trouble(self._server(a), "")

    def _trouble(self, server: SimServer, kind: str) -> None:
        history = self.world.history
        if server.trouble == kind or server in self._alone:
            return
        now = history.now()
        for trouble in history.troubles:
            if trouble.end is None and trouble.server == server.number:
                trouble.end = now
        server.trouble = kind
        if kind:
            self.note(f"refuses: {kind}")
            history.troubles.append(Trouble(kind, server.number, now))

    def limit(self, a: int) -> None:
        """Close whoever is owed more than two large records and a half, or nobody any more; where records are large."""
        padding = self.world.setup.padding
        for server in self.world.servers if padding else ():
            self.note("replies limited")
            server.reply_limit = _SMALL + 5 * padding // 2 if a % 2 else None

    # Replicas.

    def replicas(self, a: int) -> None:
        """Have replicas that have everything, or none any more."""
        self._server(a).replicate(a % 3)

    def backlog(self, a: int) -> None:
        """Free a server's backlog, where it has no replica."""
        self.note("backlog freed")
        self._server(a).free_backlog()

    def lag(self, a: int, b: int) -> None:
        """Have a server's replicas acknowledge late, or never, or at once again."""
        self.note("replicas lag")
        self._server(a).lag = LAGS[b % len(LAGS)]

    # Messages.

    def forge(self, a: int, b: int, c: int) -> None:
        """Publish on a key's channel what looks like a record, of any kind and revision; mostly where it is heard."""
        world = self.world
        server = self._server(c)
        heard = [where for where in (*world.keys, *world.locks) if server.fake.subscribers.get(world.channel(where))]
        where = heard[a % len(heard)] if heard else world.where(a)
        kinds = (*_KINDS, Kind.EXPIRED) if world.setup.timed else _KINDS
        kind, revision = kinds[b % len(kinds)], self._forged_revision(where[0], b // 4)
        forgery = Forgery(world.history.now(), where, kind, revision)
        number = len(world.history.forgeries)
        world.history.forgeries.append(forgery)
        self.note("message forged")
        header = [kind, revision, int(world.primary.now() * 1e6), "forger", *self._forged_members(forgery, c)]
        message = json.dumps(header, separators=(",", ":")).encode() + b'\n{"f":%d}' % number
        if server.running:
            server.say(world.channel(where), message if c % 7 else message[:-9])
            server.published(world.channel(where), message)

    def _forged_members(self, forgery: Forgery, pick: int) -> list[dict[str, object]]:
        if forgery.kind in (Kind.RESET, Kind.EXPIRED):
            return [{"wake": [_KINDS[pick % 3], *forgery.revision]}] if pick % 2 else []
        waiting = [
            name.decode()[8:]
            for (_, name), held in self.world.primary.books.holders.items()
            if held.where == forgery.where
        ]
        if self.world.setup.locks and waiting:
            return [{"held": waiting[pick % len(waiting)], "token": list(forgery.revision)}]
        timed = self.world.setup.timed and forgery.kind is not Kind.PULSED and pick % 3 == 0
        return [{"ttl": 1000}] if timed else []

    def _forged_revision(self, name: str, pick: int) -> Revision:
        generation, number = self.world.primary.books.head(name) or (int(self.world.primary.now() * 1e6), 0)
        others = (
            (generation, number + 1),
            (generation, number + 1_000_000),
            (generation, max(1, number - 1)),
            (generation, number),
            (generation + 1, number + 1),
            (generation + 3_600_000_000, number + 1),
            (9_999_999_999_999_998, number + 1),
            (1, number + 1),
            (generation, 9_999_999_999_999_998),
        )
        return Revision(*others[pick % len(others)])

    # Failover.

    def save(self) -> None:
        """Let a disk, or a replica that nobody sees, have the data as they are now."""
        self.world.saved = self.world.primary.mark()

    def fail_over(self, a: int) -> None:
        """Kill the primary; another process takes over, with what was saved last (or, half of the time, everything)."""
        primary = self.world.primary
        self.note("failed over")
        mark = primary.mark() if a % 2 else self.world.saved
        self._answer_again()
        primary.stop()
        if mark is not None:
            primary.take(mark)
        self._start(primary)

    def split(self, a: int, b: int, c: int) -> None:
        """Promote another server, while the old primary goes on answering those that are connected to it.

        That is the replica, where there is one, with the data that it has; else one that nobody has seen yet. ``b``
        says which nodes find the new one when they connect again; ``c`` how far a new server's clock is off, from the
        true time: the old one's may have been set back before, so that this one's is far ahead of it.
        """
        world = self.world
        old, new = world.primary, world.other
        if not old.running or (new is not None and (new.demoted is None or not new.running or "back" in UNMENDED)):
            return
        self.note("another server promoted")
        self._answer_again()
        if new is None:
            new = self._new_replica((world.saved if a % 2 else None) or old.mark(), _SKEWS[c % len(_SKEWS)])
        ahead = new.now() - old.now()
        if not self._may_gain(ahead):
            new.step_clock(0.001 - ahead)
        new.become_primary()
        self._follow_again(new)
        world.other, world.primary = old, new
        if world.setup.careful:
            world.clock.callLater(world.setup.grace * _NOTICED[c % len(_NOTICED)], self._leave_alone, old)
        world.history.unclocked |= {names.name for names in world.names.values()} - new.books.clocked_maps
        if old.books.clocked_maps - new.books.clocked_maps:
            # A map that was made in the lost second.
            world.history.flushes.append(world.history.now())
        world.history.splits.append([world.history.now()])
        for node in world.nodes:
            if not b >> node.index & 1:
                self._move(node)

    def _leave_alone(self, server: SimServer) -> None:
        """Have a primary that was cut off notice that no replica follows it (`min-replicas-max-lag`)."""
        if self.world.other is server and server.demoted is None:
            self._trouble(server, "noreplicas")
            self._alone.add(server)

    def _follow_again(self, server: SimServer) -> None:
        self._alone.discard(server)
        self._trouble(server, "")

    def _new_replica(self, mark: Mark, skew: float) -> SimServer:
        server = self.world.new_server()
        server.step_clock(skew)
        server.take(mark)
        server.follow(self.world.primary.replid)
        return server

    def move(self, a: int) -> None:
        """Let a node find the new server when it connects again."""
        self._move(self.world.nodes[a % len(self.world.nodes)])

    def _move(self, node: SingleNode) -> None:
        node.network.server = self.world.primary

    def demote(self, a: int) -> None:
        """Tell the old primary that it is one no more, in place: it refuses to write, and has the new one's data.

        It may fall behind, or not have reached the new one yet.
        """
        other = self.world.other
        if other is not None and other.running and other.demoted is None:
            self.note("old server demoted")
            self._follow_again(other)
            other.become_replica(self.world.primary, synchronised=a % 4 != 3, streams=a % 4 < 2)

    def follow(self, a: int) -> None:
        """Have the replica fall behind from now on, or have all that its primary has."""
        other = self.world.other
        if other is not None and other.leader is not None:
            self.note("replica follows" if a % 2 else "replica falls behind")
            other.catch_up()
            other.streams = bool(a % 2)
            other.catch_up()

    def retire(self) -> None:
        """Take the other server away."""
        other, self.world.other = self.world.other, None
        if other is not None:
            self.note("old server retired")
            other.retire()
            self.world.history.splits[-1].append(self.world.history.now())
            for node in self.world.nodes:
                self._move(node)

    # The end of all faults.

    def heal(self) -> None:
        """Mend everything."""
        super().heal()
        world = self.world
        primary, other = world.primary, world.other
        primary.loading = False
        primary.lag = 0
        self.resume(0)
        if not primary.running:
            self._start(primary)
        if other is not None:
            self.resume(1)
            if other.demoted is None or not other.running:
                self.retire()
        for server in world.servers:
            self._trouble(server, "")
        if world.other is not None:
            # A replica may stay: nobody is to stay linked to it.
            world.history.splits[-1].append(world.history.now())
            world.other.streams = True
            world.other.catch_up()
            for node in world.nodes:
                self._move(node)
