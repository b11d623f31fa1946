"""Which server is meant, and as whom, from the environment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest

import coord
from coord.cli._connection import Server
from coord.link.passwords import current
from coord.link.target import Target
from coord.link.urls import parse_target

SENTINELS = "redis+sentinel://h1,h2/main"


@pytest.fixture
def meant(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that tells what a URL means in an environment."""
    for name in ("COORD_PASSWORD", "COORD_SENTINEL_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(f"{name}_FILE", raising=False)

    def target(url: str, **environment: str) -> Target:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        asked: list[Any] = []
        monkeypatch.setattr(coord, "connect", lambda url, **options: asked.append((url, options)))
        Server(url).connect(None)
        ((address, options),) = asked
        return parse_target(address, password=options["password"], sentinel_password=options["sentinel_password"])

    return target


def _sentinels_password(target: Target) -> str | None:
    resolver: Any = target.resolver()
    return current(resolver._user[1])


@pytest.mark.parametrize("url", [SENTINELS, f"redis{SENTINELS[5:]}/3", f"{SENTINELS}?sentinel_username=me"])
@pytest.mark.parametrize("password", ["s3same", "a&b=c #/?%ü"])
def test_the_sentinels_password(meant: Any, url: str, password: str, tmp_path: Path) -> None:
    """It comes from the environment or from a file named there, and is another than the server's."""
    file = tmp_path / "password"
    file.write_text(f"{password}\n", encoding="utf-8")
    target = meant(url, COORD_SENTINEL_PASSWORD_FILE=str(file), COORD_PASSWORD="primary's")
    assert _sentinels_password(target) == password
    assert target.password == "primary's"
    assert password not in target.shown + repr(target)
    assert _sentinels_password(meant(url, COORD_SENTINEL_PASSWORD=f"{password}!")) == f"{password}!"


def test_the_urls_own_wins_and_others_have_no_use_for_it(meant: Any) -> None:
    """As with the server's: what the URL says counts; and a URL without sentinels stays as it is."""
    assert _sentinels_password(meant(f"{SENTINELS}?sentinel_password=own", COORD_SENTINEL_PASSWORD="other")) == "own"
    assert meant("redis://h", COORD_SENTINEL_PASSWORD="other").shown == "redis://h"


def test_a_file_that_is_not_there(meant: Any) -> None:
    """The variable is named, as COORD_PASSWORD_FILE is."""
    with pytest.raises(click.UsageError, match="COORD_SENTINEL_PASSWORD_FILE: cannot read /nowhere"):
        meant(SENTINELS, COORD_SENTINEL_PASSWORD_FILE="/nowhere")
