"""One session of the page ends and another begins, while answers to the first are on their way."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from web.page.browser import Browser, Loop, Tab
from web.page.standin import StandIn, user

LIVE = "document.querySelector('header').innerText.includes('live')"
KEYS = "[...document.querySelectorAll('.changes a.key')].map((each) => each.innerText)"
HIDE = """window.hide = (hidden) => { Object.defineProperty(document, 'hidden', {value: hidden, configurable: true});
  document.dispatchEvent(new Event('visibilitychange')); };"""
SIGN_IN = "document.querySelector('#sign-in input').value = 'coord_good'"
Open = Callable[..., Tab]


@pytest.fixture
def open_tab(browser: Browser, site: StandIn) -> Iterator[Open]:
    """Open tabs of somebody who reads a map, and may become somebody who reads another one."""
    tabs: list[Tab] = []
    site.tokens["coord_good"] = user("oncall", "read:*", session="s2")
    site.put("jobs", "secret")
    site.members.append({"name": "secret", "kind": "fired", "value": None, "since": 1.0})

    def open_one(place: str, before: str = "") -> Tab:
        tabs.append(browser.open(f"{site.url}{place}", before=before))
        return tabs[-1]

    yield open_one
    for tab in tabs:
        tab.close()
        assert tab.errors == []


def others_turn(site: StandIn) -> None:
    """From now on all that is read is another user's."""
    site.maps.clear()
    site.members.clear()
    site.history.clear()
    site.put("jobs", "open")


def become(tab: Tab) -> None:
    """Log in as another user."""
    tab.go("#/access")
    tab.click("main button")
    tab.wait("document.querySelector('#sign-in[open]')")
    log_in(tab)


def log_in(tab: Tab) -> None:
    """Log in by the dialog that is open."""
    tab.value(SIGN_IN)
    tab.click("#sign-in .main:not(:disabled)")
    tab.go("#/access")
    tab.wait(f"{LIVE} && document.querySelector('main').innerText.includes('oncall')")


def see_a_change(tab: Tab, site: StandIn, loop: Loop) -> None:
    """Have a change shown: what was sent before has been taken, too."""

    async def put() -> None:
        site.put("jobs", "last")

    tab.go("#/stream")
    loop.run(put())
    tab.wait(f"({KEYS}).includes('last')")


@pytest.mark.parametrize(
    ("path", "place"),
    [("members", "#/members"), ("status", "#/now"), ("maps/jobs/waiting", "#/maps")],
)
def test_a_refusal_of_the_session_before_asks_for_no_token(
    site: StandIn, loop: Loop, open_tab: Open, path: str, place: str
) -> None:
    """A 401 that answers what was asked before the log-in says nothing of the new session."""
    soon = "const real = setInterval; window.setInterval = (call, ms) => real(call, ms === 10000 ? 100 : ms);"
    tab = open_tab("#/stream", before=soon)
    tab.wait(LIVE)
    site.session_over = True
    held = site.hold(path)
    tab.go(place)
    held.wait()
    # The page learns of the end by another answer.
    tab.go("#/key/jobs?key=another")
    tab.wait("document.querySelector('#sign-in[open]')")
    log_in(tab)
    held.let_go()
    see_a_change(tab, site, loop)
    assert tab.value("document.querySelector('#sign-in') === null")


def test_a_look_at_the_session_before_asks_for_no_token(site: StandIn, loop: Loop, open_tab: Open) -> None:
    """A stream that is refused has the page ask who it is; the answer counts for the session that asked."""
    tab = open_tab("#/access")
    tab.wait(LIVE)
    held = site.hold("me")
    loop.run(site.cut(away=True))
    held.wait()
    site.away = False
    become(tab)
    held.let_go()
    see_a_change(tab, site, loop)
    assert tab.value("document.querySelector('#sign-in') === null")


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("maps", "#/now"),
        ("members", "#/members"),
        ("maps/jobs/records", "#/map/jobs"),
        ("maps/jobs/waiting", "#/maps"),
        ("maps/jobs/record", "#/key/jobs?key=secret"),
        ("watch", "#/key/jobs?key=secret"),
    ],
)
def test_an_answer_to_the_session_before_is_not_shown(
    site: StandIn, loop: Loop, open_tab: Open, path: str, place: str
) -> None:
    """Whatever was on its way at the log-in is neither shown nor waited for."""
    site.waiting = {"jobs": {"secret": 1}}
    site.put("secrets", "one")
    held = site.hold(path)
    tab = open_tab(place)
    held.wait()
    others_turn(site)
    site.waiting = {}
    become(tab)
    held.let_go()
    see_a_change(tab, site, loop)
    for screen in ("#/now", "#/maps", "#/map/jobs", "#/members"):
        tab.go(screen)
        tab.wait("document.querySelector('main h1') && !document.body.innerText.includes('reading')")
        assert "secret" not in tab.text(), screen


def test_a_map_of_as_many_keys_is_another_one(site: StandIn, open_tab: Open) -> None:
    """The rows of a map are those of the session, also if the one before had as many."""
    tab = open_tab("#/map/jobs")
    tab.wait("document.querySelector('#tree .row')?.innerText.includes('secret')")
    others_turn(site)
    become(tab)
    tab.go("#/map/jobs")
    tab.wait("document.querySelector('#tree .row')")
    assert "open" in tab.text()
    assert "secret" not in tab.text()


@pytest.mark.parametrize(
    ("place", "shown"),
    [
        ("#/map/jobs", "document.querySelector('#tree').innerText.includes('broken')"),
        ("#/key/jobs?key=secret", "document.querySelector('.reason').innerText === 'broken'"),
        ("#/members", "document.querySelector('.members').innerText.includes('newer')"),
        ("#/maps", "document.querySelector('.maps td.warn').innerText === '1'"),
        ("#/now", "document.querySelector('.trouble.warn').innerText.includes('newer')"),
    ],
)
def test_the_screen_is_read_anew(site: StandIn, open_tab: Open, place: str, shown: str) -> None:
    """After a log-in the screen that one is on asks for what it shows at once, and not at its next look."""
    long = "const real = setInterval; window.setInterval = (call, ms) => real(call, 1000 * ms);"
    tab = open_tab(place, before=long)
    tab.wait(f"{LIVE} && document.querySelector('main').innerText.includes('secret')")
    others_turn(site)
    site.put("jobs", "secret", "failed", "broken", node="newer")
    site.members.append({"name": "newer", "kind": "fired", "value": None, "since": 1.0})
    site.waiting = {"jobs": {"newer": 1}}
    other = open_tab("#/access")
    become(other)
    other.value("new BroadcastChannel('coord / anonymous').postMessage({from: 'other', type: 'logged-out'})")
    tab.wait(shown)


def test_a_token_is_sent_once(site: StandIn, open_tab: Open) -> None:
    """Enter twice is one log-in."""
    tab = open_tab("#/access")
    tab.wait(LIVE)
    tab.click("main button")
    tab.wait("document.querySelector('#sign-in[open]')")
    tab.value(SIGN_IN)
    tab.value("[1, 2].forEach(() => document.querySelector('#sign-in form').requestSubmit())")
    tab.wait(f"{LIVE} && document.querySelector('main').innerText.includes('oncall')")
    assert site.log_ins == 1


def test_a_stream_of_the_session_before_is_not_opened_late(site: StandIn, loop: Loop, open_tab: Open) -> None:
    """Without locks a tab greets the others before it reads; the session may be over when they have answered."""
    no_locks = """Object.defineProperty(Navigator.prototype, 'locks', {value: undefined});
      const real = setTimeout;
      window.greeted = [];
      window.setTimeout = (call, ms, ...more) => ms === 150 ? greeted.push(call) : real(call, ms, ...more);"""
    tab = open_tab("#/access", before=no_locks)
    tab.wait("greeted.length === 1 && document.querySelector('main button')")
    tab.click("main button")
    tab.wait("document.querySelector('#sign-in[open]')")
    tab.value(SIGN_IN)
    tab.click("#sign-in .main:not(:disabled)")
    tab.wait("greeted.length === 2")
    tab.value("greeted.forEach((call) => call())")
    tab.wait(LIVE)
    see_a_change(tab, site, loop)
    assert site.opened == 1


def test_a_stream_of_the_session_before_is_not_gone_on_with(site: StandIn, loop: Loop, open_tab: Open) -> None:
    """A log-out in another tab comes while nobody looks at this one: looked at, it reads as the new user alone."""
    fast = f"""const real = setTimeout;
      window.setTimeout = (call, ms, ...more) => real(call, ms === 60000 ? 50 : ms, ...more);
      {HIDE}"""
    tab = open_tab("#/access", before=fast)
    tab.wait(LIVE)
    tab.value("hide(true)")
    tab.wait("document.querySelector('header').innerText.includes('paused')")
    site.me = site.tokens["coord_good"]
    other = open_tab("#/access")
    other.value("new BroadcastChannel('coord / anonymous').postMessage({from: 'other', type: 'logged-out'})")
    tab.wait("document.querySelector('main').innerText.includes('oncall')")
    tab.value("hide(false)")
    tab.wait(LIVE)
    see_a_change(tab, site, loop)
    assert len(site.streams) == 1
