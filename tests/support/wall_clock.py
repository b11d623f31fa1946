"""The wall clock of one process, set by Debian's libfaketime while it runs; its other clocks are left alone."""

from __future__ import annotations

from pathlib import Path

__all__ = ["WallClock"]


class WallClock:
    """Give a process ``environment``, and `step` sets its clock.

    :param file: where libfaketime reads how far the clock is off.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self.environment = {
            "LD_PRELOAD": str(self._library()),
            # One name is read by each of its versions.
            "DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_TIMESTAMP_FILE": str(file),
        }
        self.step(0)

    @staticmethod
    def _library() -> Path | None:
        return next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)

    @classmethod
    def missing(cls) -> str | None:
        """Return why there is none here, if so."""
        return None if cls._library() else "libfaketime is not installed (Debian: faketime)"

    def step(self, seconds: int) -> None:
        """Set it that far from the true one."""
        # Replaced in one step: it is read at every look at the clock.
        new = self._file.with_suffix(".new")
        new.write_text(f"{seconds:+d}")
        new.replace(self._file)
