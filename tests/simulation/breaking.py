"""How coord is broken on purpose: a variant is one mistake, made for a while."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from hashlib import sha1
from typing import Any
from unittest.mock import patch

from coord.link.scripts import APPLY, Script

__all__ = ["VARIANTS", "Variant", "replace", "rewrite", "variant"]

Break = Callable[[ExitStack], None]


@dataclass(frozen=True, slots=True)
class Variant:
    """One mistake: what it is, which promises it breaks, how to make it, and which family of schedules shows it."""

    mistake: str
    promises: tuple[str, ...]
    make: Break
    timed: bool = False
    counted: bool = False
    held: bool = False
    locked: bool = False
    acked: bool = False
    sharded: bool = False

    @contextmanager
    def made(self) -> Iterator[None]:
        """Have coord make the mistake for a while."""
        with ExitStack() as stack:
            self.make(stack)
            yield


VARIANTS: list[Variant] = []


def variant(
    mistake: str,
    *promises: str,
    timed: bool = False,
    counted: bool = False,
    held: bool = False,
    locked: bool = False,
    acked: bool = False,
    sharded: bool = False,
) -> Callable[[Break], Break]:
    """Keep the decorated function as a variant: the mistake that it makes breaks at least one of the promises."""

    def keep(make: Break) -> Break:
        VARIANTS.append(Variant(mistake, promises, make, timed, counted, held, locked, acked, sharded))
        return make

    return keep


def replace(stack: ExitStack, owner: Any, name: str, new: Any) -> Any:
    """Put ``new`` in the place of an attribute; return the old one."""
    old = owner.__dict__[name] if isinstance(owner, type) else getattr(owner, name)
    stack.enter_context(patch.object(owner, name, new))
    return old


def rewrite(stack: ExitStack, *changes: tuple[str, str], script: Script = APPLY) -> None:
    """Change the text of a script."""
    text = script.text.decode()
    for old, new in changes:
        assert text.count(old) == 1, f"{text.count(old)} times in the script: {old}"
        text = text.replace(old, new)
    replace(stack, script, "text", text.encode())
    replace(stack, script, "sha", sha1(text.encode(), usedforsecurity=False).hexdigest().encode())
