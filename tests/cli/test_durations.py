"""Times as people write them."""

from __future__ import annotations

import pytest

from coord.cli._durations import parse_duration, spell


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30", 30),
        ("30s", 30),
        ("5m", 300),
        ("1h", 3600),
        ("500ms", 0.5),
        ("2d", 172800),
        ("1.5m", 90),
        (".5", 0.5),
        ("0", 0),
    ],
)
def test_a_time_has_a_unit_or_is_in_seconds(text: str, seconds: float) -> None:
    """Each unit means what it says."""
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "s", "-5", "5 m", "1e3", "nan", "inf", "5y", "٣", "1h30m", "99999999d"])
def test_what_is_no_time_is_refused(text: str) -> None:
    """Negative, absurd and misspelt times raise, and say how a time is written."""
    with pytest.raises(ValueError, match="a time is"):
        parse_duration(text)


@pytest.mark.parametrize(("seconds", "text"), [(0.5, "0.5s"), (10, "10s"), (300, "5m"), (7200, "2h"), (0, "0s")])
def test_a_time_is_spelt_as_people_write_it(seconds: float, text: str) -> None:
    """Messages show times in the largest unit that fits."""
    assert spell(seconds) == text
