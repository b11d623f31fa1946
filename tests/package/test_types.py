"""What type checkers know of the options of `connect`, and of all that passes them on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import get_type_hints

from coord.client.options import ConnectOptions
from coord.session.settings import Settings
from doors.notebook import program as notebook

ROOT = Path(__file__).parents[2]
_USE = Path(__file__).with_name("typed_use.py")


def test_a_strict_checker_of_a_users_program(tmp_path: Path) -> None:
    """It allows what is right, and reports what is wrong, where it is written; also of a notebook's cells."""
    program = Path(shutil.copy(_USE, tmp_path))
    cells = tmp_path / "notebook.py"
    cells.write_text(notebook())
    # As where coord is installed: its own source is not what is checked.
    options = ("--strict", "--config-file=", "--follow-imports=silent", f"--cache-dir={ROOT / '.mypy_cache' / 'use'}")
    words = (sys.executable, "-m", "mypy", *options, program.name, cells.name)
    installed = {**os.environ, "MYPYPATH": str(ROOT)}
    ended = subprocess.run(words, cwd=tmp_path, env=installed, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stdout


def test_every_setting_has_its_type() -> None:
    """What a checker allows is what the node takes."""
    settings = get_type_hints(Settings)
    assert [field.name for field in fields(Settings)] == list(settings)
    assert {name: kind for name, kind in get_type_hints(ConnectOptions).items() if name in settings} == settings
