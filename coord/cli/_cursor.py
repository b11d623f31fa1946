"""The file in which `on` remembers how far it has come."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from coord import errors
from coord.cli._exits import CannotWrite

if TYPE_CHECKING:
    from coord import Revision

__all__ = ["Cursor"]

# Two numbers of sixteen digits, a dot, a line's end, and some white space by an editor.
_MOST_BYTES = 64


class Cursor:
    """A revision in a file, as ``GENERATION.NUMBER``: changes up to it were handled."""

    def __init__(self, path: Path) -> None:
        """Read it, if it is there; raise `InvalidInput` where it holds something else."""
        # A link stays one: it is what it points to that is replaced.
        self.path = Path(os.path.realpath(path))
        self.revision = self._read()
        if not os.access(self.path.parent, os.W_OK):
            raise errors.InvalidInput(f"cursor file {path}: no directory to write it in")

    def _read(self) -> Revision | None:
        from coord import Revision

        try:
            with self.path.open("rb") as file:
                text = file.read(_MOST_BYTES + 1).decode(errors="replace").strip()
            return Revision.parse(text)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise errors.InvalidInput(f"cursor file {self.path}: {error.strerror}") from None
        except errors.InvalidInput:
            raise errors.InvalidInput(
                f"cursor file {self.path}: it holds {text[:40]!r}, which is no revision like"
                " 1763820000000000.17; remove it to begin anew"
            ) from None

    def move(self, revision: Revision) -> None:
        """Remember ``revision``; raise `CannotWrite`.

        A crash leaves the old file or the new one, never half of one.
        """
        fresh = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        try:
            with fresh.open("w") as file:
                file.write(f"{revision}\n")
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(self.path)
            _sync_directory(self.path.parent)
        except OSError as error:
            with suppress(OSError):
                fresh.unlink(missing_ok=True)
            raise CannotWrite(f"cursor file {self.path}: {error.strerror}") from None
        self.revision = revision


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
