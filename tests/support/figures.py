"""What tests have measured, printed at the end of the run; also where workers ran them."""

from __future__ import annotations

from typing import Any

import pytest

__all__ = ["figure", "pytest_sessionfinish", "pytest_terminal_summary", "pytest_testnodedown"]

_figures: list[str] = []


def figure(text: str) -> None:
    """Have this line printed at the end."""
    _figures.append(text)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand a worker's figures to whoever prints them (pytest-xdist)."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["figures"] = list(_figures)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take a worker's figures."""
    _figures.extend(getattr(node, "workeroutput", {}).get("figures", ()))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print them."""
    if _figures:
        terminalreporter.section("figures")
        for text in _figures:
            terminalreporter.write_line(text)
