"""One node: what runs, and what its user holds of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

from twisted.internet.defer import Deferred

from coord.client.coordinator import Coordinator
from coord.client.events import EventMap
from coord.core.entries import Entry
from coord.core.names import MapNames
from coord.core.subscriptions import Phase
from coord.link.link import LinkState
from coord.session.session import Session
from coord.testing import MemoryConnection
from simulation.clock import NodeClock
from simulation.history import AckWait, History, Hold, Key, Moment, NodeLife, Request, Wait, Watching

if TYPE_CHECKING:
    from simulation.world import World

__all__ = ["Network", "SimNode"]


Links = list[tuple[Moment, str, str]]
OnLink = Callable[[LinkState, str], None]


class Network(Protocol):
    """A node's ways to servers."""

    @property
    def connections(self) -> Sequence[MemoryConnection]:
        """All that either end takes for open."""

    def cut(self) -> None:
        """Break all connections."""

    def stall(self, direction: Literal["to server", "to client"] | None = None) -> None:
        """Let nothing through."""

    def unstall(self, direction: Literal["to server", "to client"] | None = None) -> None:
        """Let everything through."""


class SimNode(ABC):
    """One node: what runs (``coordinator``), and what its user holds of it."""

    clock: NodeClock
    network: Network
    coordinator: Coordinator

    def __init__(self, world: World, index: int) -> None:
        history = world.history
        self.world = world
        self.index = index
        number = len(history.lives)
        name = world.node_name(index, number)
        self.life = NodeLife(number, f"n{index}", history.now(), world.setup.heartbeat, name)
        history.lives.append(self.life)
        # Why nothing that it asks is answered.
        self.silent: set[str] = set()
        self.pending: list[Wait] = []
        # Those that wait for the end of an event.
        self.ending: list[Wait] = []
        # Those that wait for a count.
        self.reaching: list[Wait] = []
        self.calling: list[Any] = []
        # Those that wait for acknowledgements.
        self.acking: list[AckWait] = []
        # Holds, those of a node that has joined too, that are not over for their user.
        self.holding: list[Hold] = []
        # Requests for locks that are not over for their user.
        self.locking: list[Request] = []
        # Each watch with the gate that a slow watcher stands at, if it is one.
        self.watches: list[tuple[Watching, Deferred[None], list[Deferred[None] | None]]] = []
        self.connect()
        self.life.incarnation = self.coordinator.incarnation
        self.maps: dict[str, EventMap] = {name: self.coordinator.events(name) for name in world.names}
        self.note_links(self.life.links, self.coordinator.link, self.coordinator.on_link)

    @abstractmethod
    def connect(self) -> None:
        """Make its clock, its network, and the coordinator."""

    def note_links(self, links: Links, state: LinkState, on_link: Callable[[OnLink], object]) -> None:
        """Write down what becomes of a link."""
        history: History = self.world.history
        links.append((self.life.born, str(state), ""))

        def linked(state: LinkState, reason: str) -> None:
            if self.life.crashed is None:
                links.append((history.now(), str(state), reason))

        on_link(linked)

    def note_renewals(self, session: Session, reached: Callable[[], None]) -> None:
        """Write down when a session reached its server, and sent renewals."""
        for tasks in (session.heartbeat_tasks, session.link_made_tasks):
            tasks.append(reached)
        commands: Any = session.commands
        commands.renew = self._renewing(commands.renew)

    def _renewing(self, renew: Callable[..., Deferred[Any]]) -> Callable[..., Deferred[Any]]:
        def noted(names: MapNames, *arguments: Any, **options: Any) -> Deferred[Any]:
            self.life.renewed[names.name] = self.clock.seconds()
            return renew(names, *arguments, **options)

        return noted

    def is_guest(self, name: str) -> bool:
        """Whether it is a guest of the server that is about to get a map."""
        return False

    @property
    def awake(self) -> bool:
        """Whether its user can do something with it."""
        return not self.clock.frozen and not self.life.over

    def session(self, name: str) -> Session:
        """Return the session of a map."""
        return self.coordinator._sessions.of(name)

    @property
    def sessions(self) -> Sequence[Session]:
        """All its sessions."""
        return self.coordinator._sessions.every

    def far_end(self, pair: Any) -> Any:
        """Return the server to which the command connection of a pair leads; ``None`` if it is cut."""
        for connection in self.network.connections if pair is not None else ():
            if connection.client.protocol is pair.command:
                far: Any = connection.server.protocol
                return None if far is None else far.server
        return None

    def entries(self) -> Iterator[tuple[Key, Entry]]:
        """Yield the keys that its tables hold."""
        for session in self.sessions:
            for subscription in session.table.subscriptions.values():
                if isinstance(subscription, Entry):
                    names = subscription.map.names
                    yield (names.name, names.key_of(subscription.channel)), subscription

    @property
    def channels(self) -> list[str]:
        """What it should be subscribed to when nothing is under way."""
        return [channel.decode() for session in self.sessions for channel in session.table.subscriptions]

    def busy(self) -> str:
        """Return what is still going on, in words; or nothing."""
        if self.coordinator.link is not LinkState.CONNECTED:
            return f"its link is {self.coordinator.link}: {self.coordinator.reason}"
        reasons = (_busy(session) for session in self.sessions)
        reason = "a call is not answered" if self.calling else next(filter(None, reasons), "")
        if reason:
            return reason
        for hold in self.holding:
            if hold.held is None or not hold.held.valid:
                return f"hold {hold.serial} is {'not valid' if hold.held else 'not answered'}"
        for watching, _, _ in self.watches:
            if watching.ended is None and not self._caught_up(watching):
                return f"the watch of {watching.map} from {watching.since} is not at the end"
        return ""

    def _caught_up(self, watching: Watching) -> bool:
        if not watching.items:
            return False
        head = self.world.books(watching.map).head(watching.map)
        return head is None or watching.items[-1][1].revision == head


def _busy(session: Session) -> str:
    if not session.link.up:
        return f"a map has no server: {session.reason}"
    if len(session.call_sender):
        return "a call is not answered"
    if not session.idle:
        return "something is to be sent or answered"
    phases = {each.channel: each.phase for each in session.table.subscriptions.values()}
    return next((f"{name!r} is {phase.name}" for name, phase in phases.items() if phase is not Phase.ARMED), "")
