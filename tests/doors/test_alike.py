"""The three doors have the same names and parameters; what differs is listed here, with its reason."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

import pytest

import coord
import coord.aio
import coord.blocking

# Of Twisted, and of a deferred close.
_TWISTED_ONLY = {
    ("Coordinator", "start"): "connect() calls it",
    ("Coordinator", "add_cleanup"): "for what was launched with the coordinator, by Deferreds",
    ("Coordinator", "turn"): "both others send at the end of a turn by themselves",
    ("Coordinator", "adopt"): "for coord.blocking",
    ("Watch", "fill"): "for the others",
    ("Watch", "take"): "for the others",
    ("Watch", "log"): "Twisted's logger",
}
_ADDED = {
    ("aio", "EventMap", "hold"): {"cancel"},
    ("aio", "EventMap", "barrier"): {"cancel"},
    ("aio", "EventMap", "lock"): {"cancel"},
    ("aio", "EventMap", "elect"): {"cancel"},
    ("aio", "EventMap", "semaphore"): {"cancel"},
    ("aio", "Coordinator", "join"): {"cancel"},
}
_BLOCKING_ONLY = {
    ("Hold", "check"): "nothing can interrupt a block",
}
_ASYNC = {"__aenter__": "__enter__", "__aexit__": "__exit__", "__aiter__": "__iter__", "__anext__": "__next__"}
_KEPT = {"__getitem__", *_ASYNC, *_ASYNC.values()}


def _names(kind: Any) -> set[str]:
    """Return the public names of a class, and what it is entered, iterated and indexed by."""
    members = _members(kind)
    own = {name for name in members if not name.startswith("_") or name in _KEPT}
    return {name for name in own if inspect.isroutine(getattr(kind, name)) or isinstance(members[name], property)}


def _members(kind: Any) -> dict[str, Any]:
    """Return what a class has from coord, its bases included."""
    ours = [each for each in kind.__mro__ if each.__module__.startswith("coord")]
    return {name: member for each in reversed(ours) for name, member in vars(each).items()}


def _parameters(kind: Any, name: str) -> dict[str, inspect.Parameter]:
    function = _members(kind)[name]
    if isinstance(function, property):
        return {}
    parameters = inspect.signature(function).parameters.values()
    return {each.name: each.replace(annotation=each.empty) for each in parameters}


@pytest.mark.parametrize("kind", ["Coordinator", "EventMap", "Hold", "Lock", "Watch"])
@pytest.mark.parametrize("door", [coord.aio, coord.blocking])
def test_names_and_parameters(kind: str, door: Any) -> None:
    """Of each class, in both directions."""
    name_of_door = door.__name__.partition(".")[2]
    blocking = door is coord.blocking
    twisted, ours = getattr(coord, kind), getattr(door, kind)
    wanted = {name for name in _names(twisted) if (kind, name) not in _TWISTED_ONLY}
    spelled = {_ASYNC.get(name, name) if blocking else name: name for name in wanted}
    if kind == "EventMap":
        # Refused in all three.
        assert {"__iter__", "__len__", "__bool__", "__contains__", "__setitem__", "__delitem__"} <= {*vars(ours)}
        spelled.pop("__iter__", None)
    # What the Twisted door has as attributes.
    attributes = {
        "Hold": {"key", "node", "first"},
        "Lock": {"key", "node", "token", "record"},
        "Coordinator": {"incarnation"},
    }.get(kind, set())
    added = {name for of, name in _BLOCKING_ONLY if of == kind and blocking}
    assert _names(ours) - attributes - added - {"__iter__"} == {*spelled} - {"__iter__"}
    for name, original in spelled.items():
        if name.startswith("__") and name != "__getitem__":
            continue
        theirs, own = _parameters(twisted, original), _parameters(ours, name)
        for extra in _ADDED.get((name_of_door, kind, name), set()):
            own.pop(extra)
        assert own == theirs, name


@pytest.mark.parametrize("door", [coord.aio, coord.blocking])
def test_connect(door: Any) -> None:
    """The same address and options, but that a reactor is the door's own."""
    theirs, ours = inspect.signature(coord.connect), inspect.signature(door.connect)
    assert str(ours) == str(theirs).replace("ConnectOptions", "OwnOptions")

    async def with_a_reactor() -> None:
        door.connect(reactor=None)

    with pytest.raises(TypeError, match="reactor"):
        asyncio.run(with_a_reactor())


@pytest.mark.parametrize("door", [coord.aio, coord.blocking])
def test_completion_sees_every_name(door: Any) -> None:
    """All is written out, with annotations: nothing is made at run time."""
    for kind in (getattr(door, name) for name in door.__all__ if isinstance(getattr(door, name), type)):
        for name in _names(kind):
            member = _members(kind)[name]
            function = member.fget if isinstance(member, property) else member
            assert function.__doc__ or name.startswith("__"), (kind, name)
            assert "return" in function.__annotations__, (kind, name)
