"""What a wait or a call takes of memory, where Python could make it more without anybody noticing."""

from __future__ import annotations

import subprocess
import sys

import pytest

# In a process of its own: what was made and called back before decides.
CALLED_BACK = """
import gc
from twisted.internet.defer import Deferred
from coord.client.waits import CallAnswer, Waiter

waiting = [{made} for _ in range(1_000)]
for each in waiting:
    Deferred.callback(each.addCallback(lambda _: None), None)
print(sum(type(part) is dict for each in waiting for part in gc.get_referents(each)))
"""


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="newer versions of Python keep attributes in another way")
@pytest.mark.parametrize("made", ['Waiter(b"key", print)', "CallAnswer(print)"])
def test_none_has_a_dict_of_its_own(made: str) -> None:
    """All share one table of attributes, also where many were made before the first was called back."""
    program = [sys.executable, "-c", CALLED_BACK.format(made=made)]
    assert subprocess.run(program, capture_output=True, text=True, check=True).stdout == "0\n"
