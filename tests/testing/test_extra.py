"""The extra of `coord.testing`: what an import without it says, and the series of fakeredis that it allows."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from support.index import install, must_answer

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
(FAKEREDIS,) = map(Requirement, PROJECT["optional-dependencies"]["testing"])
LOWEST = next(each.version for each in FAKEREDIS.specifier if each.operator == ">=")
# The promises on the server that users have, and the server of coord's own tests beside Redis.
CHECKED = (
    "tests/contract/test_w1_late.py",
    "tests/contract/test_w3_once.py",
    "tests/contract/test_w4_alone.py",
    "tests/testing/test_cluster.py",
    "tests/testing/test_fakeredis_names.py",
    "tests/testing/test_against_redis.py",
    "tests/testing/test_memory_server.py",
)

_WITHOUT = """if True:
    import sys

    class Missing:
        def find_spec(self, name, path=None, target=None):
            if name.partition(".")[0] == sys.argv[1]:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    sys.meta_path.insert(0, Missing())
    try:
        import coord.testing
    except ImportError as error:
        print(type(error).__name__, error)
"""


@pytest.mark.parametrize("missing", ["fakeredis", "lupa", "redis", "sortedcontainers"])
def test_an_import_without_the_extra_says_what_to_install(missing: str) -> None:
    """Whichever package is not there, the error names the extra, in one line."""
    done = subprocess.run([sys.executable, "-c", _WITHOUT, missing], capture_output=True, text=True, check=True)
    told = f"coord.testing needs its extra (No module named '{missing}'): pip install 'coord[testing]'"
    assert done.stdout == f"ImportError {told}\n"


def test_an_import_with_another_series_says_so_too(tmp_path: Path) -> None:
    """A fakeredis that lacks a name is not the one that the extra asks for."""
    (tmp_path / "fakeredis").mkdir()
    (tmp_path / "fakeredis" / "__init__.py").write_text("class FakeServer: pass\n")
    words = [sys.executable, "-c", _WITHOUT, "nothing"]
    done = subprocess.run(words, capture_output=True, text=True, check=True, env=_first_on_the_path(tmp_path))
    assert done.stdout.startswith("ImportError coord.testing needs its extra (cannot import name '_helpers'")
    assert done.stdout.endswith(": pip install 'coord[testing]'\n")
    assert done.stdout.count("\n") == 1


def test_the_installed_series_is_one_of_those_allowed() -> None:
    """What the tests run on here is what users get."""
    assert version("fakeredis") in FAKEREDIS.specifier


@pytest.mark.deadline(240)
def test_the_promises_hold_with_the_lowest_series(tmp_path: Path) -> None:
    """The highest is what pip installs, so all other tests run on it."""
    must_answer(install("--no-deps", "--target", tmp_path, f"fakeredis=={LOWEST}.*"))
    words = ["-q", "-x", "-p", "no:xdist", "--servers", "shipped,memory", *CHECKED]
    command = [sys.executable, "-m", "pytest", *words]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, env=_first_on_the_path(tmp_path)
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout


def _first_on_the_path(folder: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *filter(None, sys.path)])}
