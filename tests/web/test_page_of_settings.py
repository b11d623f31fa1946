"""docs/web.md names every setting, limit, verb and metric."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from msgspec.structs import fields

from coord.testing import Cluster
from coord.web.config import Config, Limits
from coord.web.metrics import WebCollector
from coord.web.rights import VERBS
from web.client import Web

PAGE = (Path(__file__).parents[2] / "docs" / "web.md").read_text(encoding="utf-8")
_CELLS = [line.split("|")[1] for line in PAGE.splitlines() if line.startswith("| `")]
_FIRST = {word for cell in _CELLS for word in re.findall("`(.*?)`", cell)}


@pytest.mark.parametrize("name", [field.encode_name for kind in (Config, Limits) for field in fields(kind)])
def test_every_setting_has_a_line(name: str) -> None:
    """And each limit, with its default."""
    assert name in _FIRST
    limit = {field.encode_name: field.default for field in fields(Limits)}.get(name)
    if limit is not None:
        (line,) = [line for line in PAGE.splitlines() if line.startswith("| `") and f"`{name}`" in line.split("|")[1]]
        assert f"{limit:,}" in line


def test_every_verb_has_a_line() -> None:
    """And no other has."""
    assert {*VERBS, "write"} <= _FIRST


def test_every_metric_is_named(memory: Cluster) -> None:
    """With the name that Prometheus shows."""
    web = Web(memory)
    for family in WebCollector(web.gateway).collect():
        assert f"`{family.name}{'_total' if family.type == 'counter' else ''}`" in PAGE
    web.close()
