"""What a door may have left behind in this process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def _descriptors() -> list[str]:
    found = []
    for descriptor in Path("/proc/self/fd").iterdir():
        # The one that lists the folder is gone.
        with suppress(FileNotFoundError):
            # A pipe of the server that was restarted is another one.
            found.append(str(descriptor.readlink()).partition(":")[0])
    return sorted(found)


@contextmanager
def nothing_left() -> Iterator[None]:
    """Have the same descriptors and threads afterwards as before."""
    before, threads = _descriptors(), set(threading.enumerate())
    yield
    after, left = _descriptors(), set(threading.enumerate()) - threads
    assert (after, left) == (before, set()), f"descriptors {before} before, {after} after; threads {left}"
