"""Real file systems, mounted for real, in a mount namespace of their own (needs root on Linux)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


def _why_not() -> str:
    if sys.platform != "linux":
        return "mountinfo is Linux's"
    if os.geteuid() != 0:
        return "only root may mount"
    if not (shutil.which("unshare") and shutil.which("mount")):
        return "util-linux is not installed"
    probe = "mount -t tmpfs none /tmp"
    tried = subprocess.run(["unshare", "-m", "sh", "-c", probe], capture_output=True, text=True)
    return "" if tried.returncode == 0 else f"cannot mount here: {tried.stderr.strip()}"


WHY_NOT = _why_not()
PROGRAM = Path(__file__).with_name("real_mounts.py")
SCENES = [
    "wake",
    "burst",
    "opening",
    "agent",
    "placeholder",
    "unsignalled",
    "signalled_after_a_look",
    "process_ends",
    "process_is_gone",
    "process_ends_early",
    "another_pid_namespace",
    "another_namespace",
    "tree",
]
NEEDS_AUTOFS = {"placeholder", "process_ends", "process_is_gone", "process_ends_early"}


@pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT or "can mount")
@pytest.mark.parametrize("scene", SCENES)
def test_real_mounts(scene: str, tmp_path: Path) -> None:
    """What the scene's docstring says, on this kernel (see real_mounts.py)."""
    if scene in NEEDS_AUTOFS and "autofs" not in Path("/proc/filesystems").read_text():
        pytest.skip("this kernel has no autofs")
    done = subprocess.run(
        ["unshare", "-m", sys.executable, "-W", "error", PROGRAM, scene, tmp_path],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
