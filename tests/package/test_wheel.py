"""The wheel holds all that coord needs: built from the sdist, installed alone, and tried from elsewhere."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from dataclasses import dataclass
from pathlib import Path
from zipfile import ZipFile

import pytest

from docs.servers import free_port, running
from support.index import install, must_answer

ROOT = Path(__file__).parents[2]
# What a wheel could lack: the scripts, the history, the server in memory, and the embedded one.
SMOKE = ("test_w1_late.py", "test_w4_alone.py")
# Of what is in the tree, what is no part of it.
_LEFT_OUT = (".git", ".venv", ".*_cache", ".hypothesis", "__pycache__", "*.egg-info", "build", "dist")
_BUILD = """if True:
    import sys
    from setuptools import build_meta
    print(getattr(build_meta, sys.argv[1])(sys.argv[2]))
"""


@dataclass
class Installed:
    """A virtual environment with the wheel and what it requires, and the two distributions."""

    folder: Path
    sdist: Path
    wheel: Path

    @property
    def bin(self) -> Path:
        """Where its programs are."""
        return self.folder / "venv" / "bin"

    def run(self, *words: str | Path, cwd: Path | None = None, more: tuple[str, ...] = ()) -> str:
        """Run one of its programs, from a folder with nothing of coord's in it; return what it printed."""
        done = subprocess.run(
            [self.bin / words[0], *words[1:], *more],
            cwd=cwd or self.folder / "elsewhere",
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    def environment(self, **more: str) -> dict[str, str]:
        """Return the environment of somebody who has only this on the path."""
        home = {"HOME": str(self.folder), "LANG": "C.UTF-8"}
        return {"PATH": os.pathsep.join([str(self.bin), os.environ["PATH"]]), **home, **more}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Build both distributions, and install the wheel with what it requires from the package index."""
    folder = tmp_path_factory.mktemp("wheel")
    (folder / "elsewhere").mkdir()
    python = folder / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    must_answer(install("setuptools>=77", python=python))
    new = Installed(folder, _sdist(folder), folder)
    with tarfile.open(new.sdist) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    (source,) = (folder / "unpacked").iterdir()
    name = new.run("python", "-c", _BUILD, "build_wheel", str(folder), cwd=source).splitlines()[-1]
    new.wheel = folder / name
    done = install(f"coord[embedded] @ {new.wheel.as_uri()}", python=python)
    assert done.returncode == 0, done.stderr
    return new


def _sdist(folder: Path) -> Path:
    """Build the sdist from a copy: what an earlier build has left in the tree must not help."""
    shutil.copytree(ROOT, folder / "copy", ignore=shutil.ignore_patterns(*_LEFT_OUT), symlinks=True)
    new = Installed(folder, folder, folder)
    name = new.run("python", "-c", _BUILD, "build_sdist", str(folder), cwd=folder / "copy").splitlines()[-1]
    return folder / name


def _files(*folders: str) -> set[str]:
    paths = (path for each in folders for path in (ROOT / each).rglob("*") if path.is_file())
    return {str(path.relative_to(ROOT)) for path in paths if not {"__pycache__", ".hypothesis"} & {*path.parts}}


def test_the_wheel_holds_the_package_and_nothing_else(installed: Installed) -> None:
    """Modules, scripts and the mark of types are in it; tests and pages are not."""
    held = {name for name in ZipFile(installed.wheel).namelist() if ".dist-info/" not in name}
    assert held == _files("coord")
    assert {"coord/py.typed", "coord/link/lua/apply.lua"} <= held


def test_the_sdist_holds_what_the_tests_need(installed: Installed) -> None:
    """Package, pages and tests are in it, whole; and nothing that only this machine has."""
    with tarfile.open(installed.sdist) as archive:
        held = {name.partition("/")[2] for name in archive.getnames() if archive.getmember(name).isfile()}
    wanted = _files("coord", "docs", "tests", "compose", "benchmarks", ".github", ".ci")
    top = {path.name for path in ROOT.iterdir() if path.is_file() and not path.name.startswith(".")}
    assert held - {"PKG-INFO", "setup.cfg"} - {name for name in held if ".egg-info/" in name} == wanted | top


def test_the_commands_run_from_elsewhere(installed: Installed) -> None:
    """The installed command shows its help, and fires and waits on the server that it starts."""
    assert "wait" in installed.run("coord", "--help")
    assert installed.run("coord", "--version").startswith("coord ")
    where = installed.run("python", "-c", "import coord; print(coord.__file__)")
    assert Path(where).is_relative_to(installed.folder / "venv")
    port = free_port()
    url = ("--url", f"redis://127.0.0.1:{port}")
    elsewhere = installed.folder / "elsewhere"
    words: list[str | Path] = [installed.bin / "coord", "server", "--port", str(port), "--data", elsewhere / "data"]
    with running(words, "redis://", installed.folder):
        assert installed.run("coord", "fire", "deploy", "ready", "v1", more=url) == "first"
        assert installed.run("coord", "wait", "deploy", "ready", more=url) == "v1"


def test_a_smoke_part_of_the_contract_holds(installed: Installed) -> None:
    """With the tools of this environment, but not its coord, promises hold on the server in memory and on Valkey."""
    # Files of its own that set paths are not read there: so an editable coord is not found.
    shown = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
    tools = Path(installed.run("python", "-c", shown)) / "tools.pth"
    tools.write_text(f"{sysconfig.get_paths()['purelib']}\n")
    try:
        shown = "import coord, pytest; print(coord.__file__)"
        assert Path(installed.run("python", "-c", shown)).is_relative_to(installed.folder / "venv")
        # Without the package beside them.
        apart = installed.folder / "apart"
        shutil.copytree(ROOT / "tests", apart / "tests", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", apart)
        tests = [str(apart / "tests" / "contract" / name) for name in SMOKE]
        words = ("-m", "pytest", "-q", "-x", "-c", str(apart / "pyproject.toml"), "--servers", "memory,valkey", *tests)
        assert " passed" in installed.run("python", *words)
    finally:
        tools.unlink()
