"""Usage errors: what is wrong, what may be meant, and where to find help."""

from __future__ import annotations

from collections.abc import Iterable

import click

__all__ = ["near", "sentence"]


def near(word: str, names: Iterable[str]) -> str:
    """Return " (did you mean ...?)" with the names similar to ``word``; empty if there is none."""
    from difflib import get_close_matches

    known = sorted(names)
    # Up to two names that are close; without any, one that is less close.
    found = get_close_matches(word, known, n=2, cutoff=0.7) or get_close_matches(word, known, n=1, cutoff=0.65)
    return f" (did you mean {' or '.join(found)}?)" if found else ""


def sentence(error: click.ClickException) -> str:
    """Return a usage error as one sentence, in the words of click or of our own."""
    if isinstance(error, click.NoSuchOption):
        # click's own hint differs from version to version.
        text = f"{error.message.rstrip('.')}{near(error.option_name, error.possibilities or ())}"
    else:
        text = error.format_message()
        text = text if text.endswith("...") else text.removesuffix(".")
    ctx = error.ctx if isinstance(error, click.UsageError) else None
    return f"{_lowered(text)}; see {ctx.command_path if ctx else 'coord'} --help"


def _lowered(text: str) -> str:
    return text if text[1:2].isupper() else text[:1].lower() + text[1:]
