"""The entries that fire, pulse and fail send: KEY and VALUE of the command line, or the lines of ``--from``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import click

import coord
from coord.cli._values import parse_value

if TYPE_CHECKING:
    from coord import Json

__all__ = ["Entry", "Source", "check_numbers", "of_keys"]

# A value is 64 KiB and a key 512 bytes; JSON may escape a character in six bytes, and add white space.
_MOST_BYTES = 1 << 20


class Entry(NamedTuple):
    """A key and the value for it. ``where`` is the line it comes from, for errors; empty for the command line."""

    where: str
    key: str
    value: Json


def of_keys(keys: Iterable[str]) -> list[Entry]:
    """Return entries without values for the keys of a command line; raise `InvalidKey` if one is invalid."""
    from coord.core.names import check_keys

    return [Entry("", key, None) for key in check_keys(keys)]


def check_numbers(entries: Iterable[Entry]) -> None:
    """Raise `InvalidInput`, with the line number, if a value is not a number to count."""
    from coord.session.settings import MOST_COUNTED, check_whole

    for entry in entries:
        with _naming(entry.where):
            check_whole("N", entry.value, MOST_COUNTED)


class Source(NamedTuple):
    """A file of entries, ``-`` for standard input.

    :param json_lines: each line is an object with ``key`` and ``value``; else KEY, or KEY, a tab and VALUE.
    :param parse: parses VALUE.
    :param default: the value of a line with a KEY alone; `None` if it needs a VALUE.
    :param keys_only: each line is a KEY, without a value.
    """

    path: str
    json_lines: bool
    parse: Callable[[str], Json] = parse_value
    default: Json = True
    keys_only: bool = False

    def read(self) -> list[Entry]:
        """Return all entries; raise `InvalidInput`, with the line number, if one is invalid.

        So nothing is sent from a file with an invalid line.
        """
        from coord.core.names import check_key
        from coord.core.values import encode

        entries = []
        for number, text in self._lines():
            where = f"line {number}"
            with _naming(where):
                key, value = self._of_json(text) if self.json_lines else self._of_words(text)
                check_key(key)
                encode(value)
            entries.append(Entry(where, key, value))
        return entries

    def _lines(self) -> Iterator[tuple[int, str]]:
        """Yield the non-empty lines with their numbers, without their line ends (LF, or CR and LF)."""
        with _opened(self.path) as file:
            for number, line in enumerate(iter(partial(file.readline, _MOST_BYTES + 1), b""), 1):
                if len(line) > _MOST_BYTES:
                    raise coord.InvalidInput(f"line {number}: more than {_MOST_BYTES} bytes")
                try:
                    text = line.decode().removesuffix("\n").removesuffix("\r")
                except UnicodeDecodeError:
                    raise coord.InvalidInput(f"line {number}: not UTF-8") from None
                if text:
                    yield number, text

    def _of_words(self, text: str) -> tuple[str, Json]:
        if self.keys_only:
            return text, None
        key, tab, value = text.partition("\t")
        if tab:
            return key, self.parse(value)
        if self.default is None:
            raise coord.InvalidInput("expected KEY, a tab and VALUE, but there is no tab")
        return key, self.default

    def _of_json(self, text: str) -> tuple[str, Json]:
        found = parse_value(text, strict=True, what="")
        if not isinstance(found, dict) or not isinstance(key := found.get("key"), str):
            raise coord.InvalidInput('expected an object with a string "key": {"key": "k", "value": 1}')
        if self.keys_only:
            return key, None
        if "value" not in found:
            raise coord.InvalidInput('the object has no "value"')
        return key, found["value"]


@contextmanager
def _naming(where: str) -> Iterator[None]:
    try:
        yield
    except coord.InvalidInput as error:
        raise (coord.InvalidInput(f"{where}: {error}") if where else error) from None


@contextmanager
def _opened(path: str) -> Iterator[BinaryIO]:
    if path == "-":
        if sys.stdin is None:
            raise click.UsageError("--from -: standard input is closed")
        yield sys.stdin.buffer
        return
    try:
        file = Path(path).open("rb")  # noqa: SIM115 - this error is for opening alone, not for reading
    except OSError as error:
        raise click.UsageError(f"--from {path}: {error.strerror}") from None
    with file:
        yield file
