"""How coord is broken on purpose: a variant is one mistake, made for a while."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from hashlib import sha1
from typing import Any
from unittest.mock import patch

from coord.link.scripts import APPLY

__all__ = ["VARIANTS", "Variant", "replace", "rewrite", "variant"]

Break = Callable[[ExitStack], None]


@dataclass(frozen=True, slots=True)
class Variant:
    """One mistake: what it is, which promises it breaks, and how to make it."""

    mistake: str
    promises: tuple[str, ...]
    make: Break

    @contextmanager
    def made(self) -> Iterator[None]:
        """Have coord make the mistake for a while."""
        with ExitStack() as stack:
            self.make(stack)
            yield


VARIANTS: list[Variant] = []


def variant(mistake: str, *promises: str) -> Callable[[Break], Break]:
    """Keep the decorated function as a variant: the mistake that it makes breaks at least one of the promises."""

    def keep(make: Break) -> Break:
        VARIANTS.append(Variant(mistake, promises, make))
        return make

    return keep


def replace(stack: ExitStack, owner: Any, name: str, new: Any) -> Any:
    """Put ``new`` in the place of an attribute; return the old one."""
    old = owner.__dict__[name] if isinstance(owner, type) else getattr(owner, name)
    stack.enter_context(patch.object(owner, name, new))
    return old


def rewrite(stack: ExitStack, *changes: tuple[str, str]) -> None:
    """Change the text of ``apply.lua``."""
    text = APPLY.text.decode()
    for old, new in changes:
        assert text.count(old) == 1, f"{text.count(old)} times in apply.lua: {old}"
        text = text.replace(old, new)
    replace(stack, APPLY, "text", text.encode())
    replace(stack, APPLY, "sha", sha1(text.encode(), usedforsecurity=False).hexdigest().encode())
