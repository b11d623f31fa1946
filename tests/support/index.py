"""Packages from the package index, for tests that need others than this environment has."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

__all__ = ["install", "must_answer"]


def install(*words: str | Path, python: str | Path = sys.executable) -> subprocess.CompletedProcess[str]:
    """Run `pip install`, for that Python; return what became of it."""
    own = ["--disable-pip-version-check", "--no-input", "--retries", "0", "--timeout", "10"]
    command = [sys.executable, "-m", "pip", "--python", python, *own, "install", "-q", "--no-compile", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def must_answer(tried: subprocess.CompletedProcess[str]) -> None:
    """Skip the test if nothing was installed: there is no index, or it has not got this."""
    if tried.returncode != 0:
        pytest.skip(f"no package index answers: {(tried.stderr.strip() or 'pip says nothing').splitlines()[-1]}")
