"""One Chromium for a file of tests, and a stand-in for the gateway for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip("aiohttp", reason="aiohttp is not installed (extra examples)")

from web.page.browser import CHROMIUM, Browser, Loop, Tab
from web.page.standin import StandIn


@pytest.fixture(scope="module")
def loop() -> Iterator[Loop]:
    """Give a loop in a thread of its own."""
    loop = Loop()
    yield loop
    loop.close()


@pytest.fixture(scope="module")
def browser(loop: Loop) -> Iterator[Browser]:
    """Give a browser, where Chromium is installed."""
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    with Browser(loop) as browser:
        yield browser


@pytest.fixture
def site(loop: Loop) -> Iterator[StandIn]:
    """Give a gateway that says what it is told to."""
    site = StandIn()
    loop.run(site.start())
    yield site
    loop.run(site.stop())


@pytest.fixture
def tab(browser: Browser, site: StandIn) -> Iterator[Tab]:
    """Give a tab that shows the page of the stand-in, and has nothing to complain about at the end."""
    tab = browser.open(site.url)
    tab.wait("document.querySelector('main h1')")
    yield tab
    tab.close()
    assert tab.errors == []
