"""What tests have measured, printed at the end of the run."""

from __future__ import annotations

import pytest

__all__ = ["figure", "pytest_terminal_summary"]

_figures: list[str] = []


def figure(text: str) -> None:
    """Have this line printed at the end."""
    _figures.append(text)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print them."""
    if _figures:
        terminalreporter.section("figures")
        for text in _figures:
            terminalreporter.write_line(text)
