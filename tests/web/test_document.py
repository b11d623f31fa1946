"""The document of the API: valid, complete, and true of what a gateway answers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.processes import RedisServer
from coord.web.openapi import document
from coord.web.problems import PROBLEMS
from coord.web.routes import Route
from coord.web.table import TABLE
from web.client import ALL, Web
from web.conftest import Process


def _document() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(document(TABLE)))
    return found


def test_it_is_valid() -> None:
    """As OpenAPI 3.1 says."""
    from openapi_spec_validator import validate

    validate(_document())


def test_it_has_every_route(web: Web) -> None:
    """Each with a summary, and is what the gateway gives."""
    found = web.get("/openapi.json").json
    assert found == _document()
    for route in TABLE:
        if route.template == "/" or route.template.startswith("/page/"):
            continue
        operation = found["paths"][route.template][route.method.lower()]
        assert operation["summary"], route
        assert operation["description"], route


@pytest.mark.parametrize("route", TABLE, ids=repr)
def test_a_route_names_problems_that_there_are(route: Route[Any, Any]) -> None:
    """Those of its own."""
    assert {*route.problems} <= {*PROBLEMS}


_SETTINGS = """
[generation]
max-examples = {examples}

[checks.positive_data_acceptance]
# A call may be refused because of what stands, and a wait be in vain.
expected-statuses = ["2xx", "304", "401", "403", "404", "408", "409", "410", "412", "422", "424", "429"]
"""


@pytest.fixture(scope="module")
def generous(shared_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """Give a gateway that takes many requests a second."""
    config = tmp_path_factory.mktemp("web") / "web.toml"
    config.write_text(f"anonymous = {list(ALL)}\nlimits = {{ rate = 100_000, burst = 100_000 }}\n")
    process = Process(shared_server.url, config)
    yield process
    process.end()


def test_it_is_true(generous: Process, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Schemathesis finds nothing, with all its checks: no error of the gateway, and nothing that is not documented."""
    pytest.importorskip("schemathesis", reason="schemathesis is not installed (extra test)")
    settings = tmp_path / "schemathesis.toml"
    examples = request.config.getoption("--document-examples")
    settings.write_text(_SETTINGS.format(examples=examples))
    phases = "coverage,fuzzing" if examples > 2 else "fuzzing"
    words = ["--phases", phases, "--checks", "all", "--workers", "2", "--request-timeout", "10"]
    ended = subprocess.run(
        (
            Path(sys.executable).with_name("st"), "--config-file", settings,
            "run", f"{generous.url}/openapi.json", "--continue-on-failure", *words,
        ),
        cwd=tmp_path,
        env=os.environ | {"SCHEMATHESIS_HOOKS": "web.schemathesis_hooks", "PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout + ended.stderr
