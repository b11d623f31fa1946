"""A slot on its way from one server to another, key by key, as `redis-cli --cluster reshard` moves it."""

from __future__ import annotations

from collections.abc import Sequence

from memory.shards import ShardServer

__all__ = ["Moving"]

_OPEN, _EMPTY, _SETTLED = 2, 3, 4
"""Stages: both servers have opened the slot; the source has no key of it any more; both know that it has moved."""


class Moving:
    """A slot on its way; ``stage`` counts what was done. ``keys`` are those that a map has in it, if it has all."""

    def __init__(self, slot: int, keys: Sequence[bytes], source: ShardServer, target: ShardServer) -> None:
        self.slot, self.keys, self.source, self.target = slot, keys, source, target
        self.stage = 0

    def advance(self, chance: int) -> bool:
        """Do one step; return whether it was the last one."""
        source, target = self.source, self.target
        match self.stage:
            case 0:
                target.set_slot(self.slot, ["IMPORTING", source.id])
            case 1:
                source.set_slot(self.slot, ["MIGRATING", target.id])
            case 2:
                if keys := source.keys_in(self.slot):
                    source.pass_on(target.port, [keys[chance % len(keys)]], replace=False)
                    return False
            case 3:
                # A key may have come since.
                for key in source.keys_in(self.slot):
                    source.pass_on(target.port, [key], replace=False)
                target.set_slot(self.slot, ["NODE", target.id])
            case 4:
                source.set_slot(self.slot, ["NODE", target.id])
        self.stage += 1
        return self.stage > _SETTLED

    @property
    def together(self) -> bool:
        """Whether one server has all keys, so that calls are answered; the first one on a map is not."""
        having = (all(key in server.fake.dbs[0] for key in self.keys) for server in (self.source, self.target))
        return self.stage not in (_OPEN, _EMPTY) or any(having)

    @property
    def serves_at_target(self) -> bool:
        """Whether who wants the map finds it at the target: the source has no key of it any more."""
        return self.stage >= _OPEN and not self.source.keys_in(self.slot)

    def gather(self) -> bool:
        """Move one more key, if there is one left; return whether there was."""
        if self.stage > _OPEN or (self.stage == _OPEN and not self.source.keys_in(self.slot)):
            return False
        self.advance(0)
        return True

    def call_off(self) -> bool:
        """Give back the keys that have moved, and close the slot where it was; return whether it could be."""
        if self.stage > _OPEN:
            return False
        self.target.pass_on(self.source.port, self.target.keys_in(self.slot), replace=True)
        self.source.set_slot(self.slot, ["STABLE"])
        self.target.set_slot(self.slot, ["STABLE"])
        return True
