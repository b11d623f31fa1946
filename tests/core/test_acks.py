"""L13: when a name is counted, and when it has left, in whatever order acknowledgements and answers are known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from coord.core.acks import Acknowledgements, Acks

PROCESSES = "ab"

Moment = tuple[frozenset[str], frozenset[str]]
"""Who lives, and who has acknowledged."""


@dataclass(frozen=True)
class World:
    """The processes of one name, and what a node knows of them.

    ``born``, ``acked`` and ``dead`` are the processes; ``told`` counts the acknowledgements, in their order, that the
    node has been told of. ``question`` is what it knew when it asked who lives, ``answer`` who did when that was
    answered. ``again`` says that it reads the acknowledgements again, ``read`` which there were. ``past`` are the
    moments so far.
    """

    born: frozenset[str] = frozenset()
    dead: frozenset[str] = frozenset()
    acked: tuple[str, ...] = ()
    told: int = 0
    question: frozenset[str] | None = None
    answer: frozenset[str] | None = None
    again: bool = False
    read: tuple[str, ...] | None = None
    asks: int = 0
    member: bool = False
    past: frozenset[Moment] = frozenset()

    def after(self) -> Iterator[World]:
        """Yield what may be next."""
        yield from self._of_processes()
        if self.told < len(self.acked):
            yield replace(self, told=self.told + 1)
        if self.question is None and not self.again and self.asks < 2:
            yield replace(self, question=frozenset(self.acked[: self.told]), asks=self.asks + 1)
        if self.question is not None and self.answer is None:
            yield replace(self, answer=self.born - self.dead)
        if self.again and self.read is None:
            yield replace(self, read=self.acked)

    def _of_processes(self) -> Iterator[World]:
        for process in PROCESSES:
            if process not in self.born:
                yield replace(self, born=self.born | {process})
            elif process not in self.dead:
                yield replace(self, dead=self.dead | {process})
                if process not in self.acked:
                    yield replace(self, acked=(*self.acked, process))

    @property
    def moment(self) -> Moment:
        """Who lives now, and who has acknowledged."""
        return self.born - self.dead, frozenset(self.acked)


def _known(world: World) -> Acknowledgements:
    known = Acknowledgements(["n"])
    if world.member:
        known.want(["n"])
    for process in world.acked[: world.told]:
        known.acked("n", process)
    return known


def _broken(world: World, variant: str) -> tuple[World, str] | None:
    """Have the node take what it has been answered; return the world after it, and what it concludes."""
    known = _known(world)
    if world.answer is not None and world.question is not None:
        before = known.acks_of("n") if variant == "counts later acks" else world.question
        again = known.found("n", world.answer, before)
        member = world.member or bool(world.answer)
        if again and variant == "does not read again":
            known.read_again("n")
            again = False
        after = replace(world, question=None, answer=None, again=again, member=member)
    elif world.read is not None:
        for process in world.read:
            known.acked("n", process)
        known.read_again("n")
        after = replace(world, again=False, read=None, told=max(world.told, len(world.read)))
    else:
        return None
    report = known.report()
    return after, "counted" if report.names else "left" if report.left else ""


def _lies(variant: str = "") -> list[str]:
    """Go through all that can happen; return what the node concluded that was true at no moment."""
    lies = set()
    todo = [World(member=True, born=frozenset("a")), World()]
    seen = set(todo)
    while todo:
        world = todo.pop()
        world = replace(world, past=world.past | {world.moment})
        following = [*world.after()]
        if taken := _broken(world, variant):
            after, concluded = taken
            following.append(after)
            if concluded == "counted" and not any(acked and alive <= acked for alive, acked in world.past):
                lies.add("counted")
            if concluded == "left" and not any(not alive and not acked for alive, acked in world.past):
                lies.add("left")
        for each in following:
            if each not in seen:
                seen.add(each)
                todo.append(each)
    return sorted(lies)


def test_l13_every_order_of_what_happens_and_is_known() -> None:
    """Counted: at some moment each living process had acknowledged. Left: at some moment nobody lived, nor had."""
    assert _lies() == []


@pytest.mark.parametrize(("variant", "lie"), [("counts later acks", "counted"), ("does not read again", "left")])
def test_l13_the_orders_tell_a_wrong_rule(variant: str, lie: str) -> None:
    """Without either of the two rules, some order leads to a wrong conclusion."""
    assert _lies(variant) == [lie]


def test_l13_names_that_nobody_has() -> None:
    """Without members, one acknowledgement counts; a name that was never a member does not leave."""
    known = Acknowledgements(["a", "b"])
    known.acked("a", "1")
    for name in known.open:
        assert not known.found(name, frozenset(), known.acks_of(name))
    assert (known.over, known.report()) == (False, Acks(("a",), ("b",), ()))


def test_l13_who_comes_back_is_waited_for() -> None:
    """Until it leaves again; once it has acknowledged, it is counted for good."""
    known = Acknowledgements([])
    known.want(["a"])
    nobody: frozenset[str] = frozenset()
    assert known.found("a", nobody, nobody)
    known.read_again("a")
    assert known.report() == Acks((), (), ("a",))
    known.found("a", frozenset("2"), nobody)
    assert (known.over, known.report()) == (False, Acks((), ("a",), ()))
    known.acked("a", "2")
    known.found("a", frozenset("2"), known.acks_of("a"))
    known.acked("b", "1")
    assert (known.over, known.open, known.report()) == (True, [], Acks(("a",), (), ()))


def test_l13_a_number_is_of_names() -> None:
    """Whichever they are; those of which a process is missing are named."""
    known = Acknowledgements(2)
    assert not known.over
    for name, process, living in (("a", "1", "1"), ("b", "1", "12"), ("c", "1", "")):
        assert not known.over
        known.acked(name, process)
        known.found(name, frozenset(living), known.acks_of(name))
    assert (known.over, known.report()) == (True, Acks(("a", "c"), ("b",), ()))
