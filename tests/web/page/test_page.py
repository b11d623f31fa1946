"""The page in a real browser, on a gateway that says what it is told to."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from coord.web.rights import VERBS, Rights
from web.page.browser import Browser, Loop, Tab
from web.page.scenes import HOSTILE, hostile, many, trouble
from web.page.standin import StandIn, user

AXE = (Path(__file__).parent / "vendor" / "axe.min.js").read_text()
SCREENS = (
    "#/now",
    "#/maps?sort=-failed",
    "#/map/deploy",
    "#/map/deploy?sort=age",
    "#/map/hostile",
    "#/key/locks?key=nightly",
    "#/key/deploy?key=backup%2Fdb",
    "#/members",
    "#/stream",
    "#/access",
)
OWNER = user("oncall", "read:*", "write:*", "evict:*", session="s2")
SETTLED = "document.querySelector('main h1') && !document.body.innerText.includes('reading…')"
LIVE = "document.querySelector('header').innerText.includes('live')"


def row(key: str) -> str:
    """Return the expression for the row of a key in a map."""
    return f"[...document.querySelectorAll('#tree .row')].find((row) => row.dataset.id === {json.dumps('key ' + key)})"


@pytest.fixture
def owner(browser: Browser, site: StandIn) -> Iterator[Tab]:
    """Give a tab of somebody who may change everything, in a cluster with all there is."""
    site.me = OWNER
    trouble(site)
    hostile(site)
    tab = browser.open(site.url)
    tab.wait(f"{LIVE} && document.querySelector('.trouble')")
    yield tab
    tab.close()
    assert tab.errors == []


def test_a_change_is_shown_as_it_happens_and_the_focus_stays(site: StandIn, loop: Loop, tab: Tab) -> None:
    """A new key gets a row, a changed one its new state, and the row with the focus keeps it."""
    tab.wait(LIVE)
    happens(loop, site, "jobs", "one")
    tab.go("#/map/jobs")
    tab.wait(row("one"))
    tab.value(f"{row('one')}.focus()")
    happens(loop, site, "jobs", "another")
    happens(loop, site, "jobs", "one", "failed", "no")
    tab.wait(f"{row('another')} && {row('one')}.innerText.includes('failed')")
    assert tab.value("document.activeElement.dataset.id") == "key one"
    tab.wait("document.getElementById('said').textContent.includes('one of map jobs failed')")


def happens(loop: Loop, site: StandIn, *change: Any) -> None:
    """Make a change, in the stand-in's thread."""

    async def put() -> None:
        site.put(*change)

    loop.run(put())


def test_who_may_read_only_sees_no_buttons(site: StandIn, tab: Tab) -> None:
    """Without a right there is no button, and no switch that would turn one on."""
    site.put("jobs", "one")
    tab.go("#/key/jobs?key=one")
    tab.wait("document.querySelector('.details')")
    assert "read only" in tab.text()
    assert tab.value("document.querySelectorAll('.buttons, .allow').length") == 0


def test_a_change_wants_a_switch_and_a_dialog_that_says_where(site: StandIn, owner: Tab) -> None:
    """Buttons are off at first; the dialog names namespace and server, and what is sent is what it says."""
    owner.go("#/key/deploy?key=web%2Fapproved")
    owner.wait("document.querySelectorAll('.buttons button').length === 3")
    assert owner.value("document.querySelectorAll('.buttons button:disabled').length") == 3
    owner.click(".allow input")
    owner.click(".buttons button:not(:disabled)")
    words = owner.wait("document.querySelector('dialog[open]')?.innerText")
    assert "production" in words
    assert "redis://127.0.0.1:6379" in words
    owner.value("document.querySelector('dialog textarea').value = ''")
    owner.type('{"by": "alice"}')
    owner.wait("document.querySelector('.line textarea').value.includes('alice')")
    owner.click("dialog .actions .main")
    owner.wait("!document.querySelector('dialog')")
    verb, name, query, body = site.calls[-1]
    assert (verb, name, query, body) == ("fire", "deploy", {"key": "web/approved"}, {"by": "alice"})
    owner.wait("document.querySelector('.json')?.innerText.includes('alice')")


def test_to_end_the_holds_of_others_the_key_is_typed(site: StandIn, owner: Tab) -> None:
    """The button works only once the key stands in the field, and Escape leaves everything as it was."""
    owner.go("#/key/locks?key=nightly")
    owner.click(".allow input")
    owner.click(".buttons .danger:not(:disabled)")
    owner.wait("document.querySelector('dialog[open] .danger:disabled')")
    owner.type("nightl")
    assert owner.value("document.querySelector('dialog .danger').disabled")
    owner.press("Escape", 27)
    owner.wait("!document.querySelector('dialog') && document.activeElement.matches('.buttons .danger')")
    assert site.calls == []
    owner.click(".buttons .danger")
    owner.wait("document.querySelector('dialog[open]')")
    owner.type("nightly")
    owner.click("dialog .danger:not(:disabled)")
    owner.wait("!document.querySelector('dialog')")
    assert site.calls[-1] == ("reset", "locks", {"key": "nightly", "evict": "true"}, None)


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_a_copied_line_is_what_was_meant_and_nothing_else(tab: Tab, shell: str) -> None:
    """Whatever is in a key or a value, a shell hands it to coord and curl as it is, and runs nothing."""
    script = """(async () => {
      const main = document.querySelector('script[type=module]').src;
      const {coordLine, curlLine} = await import(main.replace('main', 'lines'));
      const where = {api: 'http://127.0.0.1:8181/v1/', server: 'redis://h:1', namespace: 'n', token: true};
      return CORPUS.map((text) => {
        const call = {verb: 'fire', map: 'm', key: text, value: {v: text}, options: {ttl: 1.5}};
        return [coordLine(call, where), curlLine(call, where, 'abc')];
      });
    })()"""
    corpus = [
        *HOSTILE,
        "a'b",
        "\\",
        "`",
        "!!",
        "~",
        "*",
        "%s%n",
        "{a,b}",
        "\u2028",
        "\u00ad",
        "é",
        "$HOME",
        '"',
        "#",
        "-",
    ]
    lines = tab.value(script.replace("CORPUS", json.dumps(corpus)))
    for text, (coord, curl) in zip(corpus, lines, strict=True):
        words = argv(shell, coord)
        assert words[:8] == ["fire", "--url", "redis://h:1", "--namespace", "n", "--ttl", "1.5s", "--"]
        assert words[8:10] == ["m", text]
        assert json.loads(words[10]) == {"v": text}
        assert coord.isprintable()
        words = argv(shell, curl)
        assert "Authorization: Bearer SECRET" in words
        assert json.loads(words[words.index("-d") + 1]) == {"v": text}
        assert curl.isascii()


def test_rights_are_read_as_the_gateway_reads_them(tab: Tab) -> None:
    """Each button is there if the gateway would let it act, on a key and on a whole map."""
    words = ["read:*", "write:*", "fire:m", "evict:m/a*", "fail:m/a", "join:a*", "join:a", "count:@members", "metrics"]
    asked = [
        (word, verb, name, key)
        for word in words
        for verb in VERBS
        for name in ("m", "other", "@members")
        for key in ("a", "ab", "b", None)
    ]
    script = """(async () => {
      const main = document.querySelector('script[type=module]').src;
      const {may} = await import(main.replace('main', 'rights'));
      return ASKED.map(([word, verb, map, key]) => may([word], verb, map, key ?? undefined));
    })()"""
    told = tab.value(script.replace("ASKED", json.dumps(asked)))
    for (word, verb, name, key), may in zip(asked, told, strict=True):
        rights = Rights([word])
        assert may is (rights.whole(verb, name) if key is None else rights.may(verb, name, key)), (
            word,
            verb,
            name,
            key,
        )


def argv(shell: str, line: str) -> list[str]:
    """Return the words that a shell makes of a line, with functions in the place of the programs."""
    functions = "coord() { printf '%s\\0' \"$@\"; }; curl() { printf '%s\\0' \"$@\"; }"
    words = [shutil.which(shell) or pytest.skip(f"{shell} is not installed"), "-c", f"{functions}\n{line}"]
    done = subprocess.run(words, capture_output=True, env={"COORD_TOKEN": "SECRET", "PATH": "/nowhere"}, check=True)
    assert done.stderr == b""
    return done.stdout.decode().split("\0")[:-1]


def test_hostile_names_are_shown_and_do_nothing(owner: Tab) -> None:
    """Keys are text, with what is hidden in them made visible; their pages are found again."""
    owner.go("#/map/hostile")
    owner.wait(f"document.querySelectorAll('#tree .row').length >= {len(HOSTILE)}")
    assert "safe\\u{202e}gnp.exe" in owner.text()
    assert "<script>alert(1)</script>" in owner.text()
    for key in HOSTILE:
        owner.go("#/map/hostile")
        owner.click_on(f"{row(key)}.querySelector('a')")
        owner.wait(
            f"document.querySelector('.json, .reason') && document.title.length && {json.dumps(key)} === "
            "new URLSearchParams(location.hash.split('?')[1]).get('key')"
        )


def test_no_screen_has_a_barrier(owner: Tab) -> None:
    """The rules of axe find nothing in any screen and in a dialog, and no low contrast in the dark."""
    owner.value(f"{AXE};0")
    for place in SCREENS:
        owner.go(place)
        owner.wait(SETTLED)
        owner.media(prefers_color_scheme="light")
        assert barriers(owner) == [], place
        owner.media(prefers_color_scheme="dark")
        assert barriers(owner, "color-contrast") == [], place
    owner.go("#/key/locks?key=nightly")
    owner.click(".allow input")
    owner.click(".buttons button:not(:disabled)")
    owner.wait("document.querySelector('dialog[open]')")
    assert barriers(owner) == []


def barriers(tab: Tab, *rules: str) -> list[Any]:
    """Return what axe complains about, by all its rules or only these."""
    chosen = json.dumps({"runOnly": rules} if rules else {})
    script = f"""axe.run({chosen}).then((found) => found.violations.map(({{id, nodes}}) =>
      [id, nodes.slice(0, 3).map(({{html, failureSummary}}) => `${{html}} ${{failureSummary}}`)]))"""
    found: list[Any] = tab.value(script)
    return found


def test_nothing_is_wider_than_a_small_screen(owner: Tab) -> None:
    """No screen scrolls sideways at 320 pixels, which is also 1280 at 400 %."""
    owner.resize(320, 600)
    for place in SCREENS:
        owner.go(place)
        owner.wait(SETTLED)
        assert owner.value("document.documentElement.scrollWidth") <= 320, place


def test_ten_thousand_keys_scroll(browser: Browser, site: StandIn) -> None:
    """Only the rows in sight are in the document, and the last one is reached by keyboard and by scrolling."""
    many(site)
    sorts = """const sort = Array.prototype.sort; window.sorts = 0;
      Array.prototype.sort = function (...how) { if (this.length > 1000) sorts += 1; return sort.apply(this, how); };"""
    tab = browser.open(f"{site.url}#/map/disks", before=sorts)
    tab.wait("document.querySelector('.tools button')?.innerText === 'Open all folders'")
    tab.click(".tools button")
    tab.wait("document.querySelector('#tree').getAttribute('aria-rowcount') > 10000")
    assert tab.value("document.querySelectorAll('#tree .row').length") < 100
    tab.value("scrollTo(0, document.body.scrollHeight)")
    last = "dc4/rack25/host499/disk19"
    tab.wait(row(last))
    assert tab.value("document.querySelectorAll('#tree .row').length") < 100
    tab.value("scrollTo(0, 0)")
    tab.wait("document.querySelector('#tree [tabindex=\"0\"]')")
    tab.value("document.querySelector('#tree [tabindex=\"0\"]').focus()")
    tab.press("End", 35)
    tab.wait(f"document.activeElement === {row(last)}")
    tab.press("Enter", 13)
    tab.wait("document.querySelector('h1.key')?.innerText === 'dc4/rack25/host499/disk19'")
    # Sorted, too, and not anew at each drawing.
    tab.go("#/map/disks?sort=-key")
    tab.wait(row(last))
    before = tab.value("sorts")
    tab.value("scrollTo(0, document.body.scrollHeight)")
    tab.wait(row("dc1/rack01/host000/disk00"))
    assert tab.value("document.querySelectorAll('#tree .row').length") < 100
    assert tab.value("sorts") == before
    tab.close()


def test_a_map_begins_with_the_rows_in_sight(browser: Browser, site: StandIn) -> None:
    """The first drawing of a short list has no others; the next has all, so that the browser finds each word in it."""
    for number in range(200):
        site.put("jobs", f"job{number:03}")
    first = """new MutationObserver((_, seen) => {
      if (!(window.first = document.querySelectorAll('#tree .row').length)) return;
      seen.disconnect();
    }).observe(document, {subtree: true, childList: true})"""
    tab = browser.open(f"{site.url}#/map/jobs", before=first)
    tab.wait("document.querySelectorAll('#tree .row').length === 200")
    assert 900 / 32 < tab.value("first") < 60
    tab.close()


def test_columns_sort(browser: Browser, site: StandIn) -> None:
    """By a click or a key of the keyboard, one way, the other, and back; a link to the place shows the same."""
    trouble(site)
    tab = browser.open(f"{site.url}#/maps")
    tab.wait("document.querySelectorAll('.maps tbody tr').length === 5")
    names = "[...document.querySelectorAll('.maps tbody th')].map((each) => each.innerText).join()"
    failed = "document.querySelectorAll('.maps thead th')[3]"
    tab.wait(f"{names} === 'build,deploy,locks,mount,services'")
    tab.click_on(f"{failed}.querySelector('button')")
    tab.wait(f"{failed}.ariaSort === 'descending' && location.hash === '#/maps?sort=-failed'")
    # Those that are equal stay as they were.
    assert tab.value(names) == "build,deploy,locks,mount,services"
    tab.press("Enter", 13, "\r")
    tab.wait(f"{failed}.ariaSort === 'ascending' && {names} === 'locks,mount,services,build,deploy'")
    tab.press("Enter", 13, "\r")
    tab.wait(f"{failed}.ariaSort === null && {names} === 'build,deploy,locks,mount,services'")
    keys = "[...document.querySelectorAll('#tree a.key')].map((each) => each.innerText).join()"
    tab.go("#/map/deploy?sort=-key")
    tab.wait(f"{keys} === 'web/tested,web/ready,nightly/begun,legacy/flag,backup/db,api/ready'")
    tab.go("#/map/deploy?sort=age&find=ready")
    tab.wait(f"{keys} === 'api/ready,web/ready'")
    tab.go("#/members?sort=-since")
    tab.wait("document.querySelector('.members tbody th').innerText === 'node2'")
    tab.close()


def test_all_members_are_shown(site: StandIn, tab: Tab) -> None:
    """Also those of the second page that the gateway gives."""
    tab.wait(LIVE)
    site.members += [{"name": f"node{each}", "kind": "fired", "value": None, "since": 1.0} for each in range(1200)]
    tab.go("#/members")
    tab.wait("document.querySelectorAll('.members tbody tr').length === 1200")
    tab.wait("document.querySelector('nav').innerText.includes('1,200')")


def test_a_sorted_list_is_sorted_anew_by_a_change(site: StandIn, loop: Loop, tab: Tab) -> None:
    """A key that changes takes its new place."""
    site.put("jobs", "one")
    site.put("jobs", "two", "failed", "no")
    tab.wait(LIVE)
    tab.go("#/map/jobs?sort=state")
    keys = "[...document.querySelectorAll('#tree .row')].map((each) => each.dataset.id).join()"
    tab.wait(f"{keys} === 'key two,key one'")
    happens(loop, site, "jobs", "one", "counted", 3)
    tab.wait(f"{keys} === 'key one,key two'")


def test_the_page_asks_nobody_else(site: StandIn, owner: Tab) -> None:
    """All that is fetched is from the gateway, whatever the screen."""
    for place in SCREENS:
        owner.go(place)
        owner.wait("document.querySelector('main h1')")
    assert [url for url in owner.requests if not url.startswith(site.url) and url != "about:blank"] == []


def test_a_session_that_ends_is_begun_again_where_one_was(site: StandIn, owner: Tab) -> None:
    """The page asks for a token over the screen, and goes on there."""
    owner.go("#/key/deploy?key=web%2Fready")
    owner.wait("document.querySelector('.json')")
    site.session_over = True
    site.tokens["coord_good"] = {**OWNER, "name": "another", "session": "s3"}
    owner.go("#/key/deploy?key=web%2Ftested")
    owner.wait("document.querySelector('#sign-in[open]')")
    owner.type("coord_bad")
    owner.press("Enter", 13, "\r")
    owner.wait("document.querySelector('#sign-in .problem').innerText")
    owner.value("document.querySelector('#sign-in input').value = 'coord_good'")
    owner.click("#sign-in .main:not(:disabled)")
    owner.wait("!document.querySelector('dialog') && document.querySelector('.json')?.innerText.includes('1841')")


def test_what_was_lost_is_said(site: StandIn, loop: Loop, owner: Tab) -> None:
    """Where the history was cut, the stream has a bar, and Now a line."""
    site.lose = True
    loop.run(site.stop())
    loop.run(site.start())
    owner.go("#/stream")
    owner.wait("document.querySelector('.gap')")
    owner.go("#/now")
    owner.wait("document.querySelector('main').innerText.includes('History lost')")


def test_a_stream_that_was_refused_is_gone_on_with(browser: Browser, site: StandIn, loop: Loop) -> None:
    """After a proxy's 502, which ends an EventSource for good, what changed meanwhile is shown, and all of it once."""
    site.put("jobs", "zero")
    tab = browser.open(f"{site.url}#/stream")
    tab.wait(LIVE)
    happens(loop, site, "jobs", "one")
    tab.wait(f"({KEYS}).join() === 'one'")
    loop.run(site.cut(away=True))
    tab.wait("document.querySelector('header').innerText.includes('reconnecting')")
    assert site.refused.wait(10)
    happens(loop, site, "jobs", "two")
    happens(loop, site, "jobs", "three")
    # Whoever repeats the last change is no trouble.
    site.sloppy = True
    site.away = False
    tab.wait(f"({KEYS}).includes('three')")
    assert tab.value(KEYS) == ["three", "two", "one"]
    tab.close()


def test_a_stream_that_ends_with_its_token_asks_for_another(site: StandIn, loop: Loop, owner: Tab) -> None:
    """The gateway says why it ended the stream, and the page asks at once, before anything else is refused."""
    site.session_over = True
    loop.run(site.cut())
    owner.wait("document.querySelector('#sign-in[open]')?.innerText.includes('the token has expired')")


def test_ten_tabs_have_one_stream(browser: Browser, site: StandIn, loop: Loop) -> None:
    """All show each change once; when the tab that reads is closed, another one goes on."""
    site.put("jobs", "zero")
    tabs = [browser.open(f"{site.url}#/stream")]
    # The first one reads.
    tabs[0].wait(LIVE)
    tabs += [browser.open(f"{site.url}#/stream") for _ in range(9)]
    for tab in tabs:
        tab.wait(LIVE)
    assert site.opened == 1
    happens(loop, site, "jobs", "one")
    for tab in tabs:
        tab.wait(f"({KEYS}).join() === 'one'")
    tabs.pop(0).close()
    wait_for(lambda: site.opened == 2)
    happens(loop, site, "jobs", "two")
    for tab in tabs:
        tab.wait(f"({KEYS}).join() === 'two,one'")
    assert site.opened == 2
    for tab in tabs:
        tab.close()


KEYS = "[...document.querySelectorAll('.changes a.key')].map((each) => each.innerText)"


def test_without_locks_each_tab_has_a_stream_and_the_fifth_none(browser: Browser, site: StandIn) -> None:
    """On plain http a browser has no locks; six connections are all it makes, so the page leaves some."""
    no_locks = "Object.defineProperty(Navigator.prototype, 'locks', {value: undefined});"
    site.put("jobs", "one")
    tabs = []
    for _ in range(4):
        tabs.append(browser.open(site.url, before=no_locks))
        tabs[-1].wait(LIVE)
    assert len(site.streams) == 4
    # The fifth begins before the others have answered, as in a busy browser.
    at_once = "const real = setTimeout; window.setTimeout = (call, ms) => real(call, ms === 150 ? 0 : ms);"
    tabs.append(browser.open(site.url, before=no_locks + at_once))
    tabs[-1].wait("document.querySelector('header').innerText.includes('not live')")
    wait_for(lambda: len(site.streams) == 4)
    # Once another one is closed, there is a stream for it.
    tabs.pop(1).close()
    tabs[-1].wait(f"!document.querySelector('header').innerText.includes('not live') && {LIVE}")
    wait_for(lambda: len(site.streams) == 4)
    for tab in tabs:
        tab.close()


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until something is so here, outside of the browser."""
    ends = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.02)


def test_a_tab_that_nobody_sees_lets_go_of_the_stream(browser: Browser, site: StandIn, loop: Loop) -> None:
    """After a minute the stream is closed, and what changed meanwhile is shown once on coming back."""
    fast = """const real = setTimeout;
      window.setTimeout = (call, ms, ...more) => real(call, ms === 60000 ? 50 : ms, ...more);
      window.hide = (hidden) => { Object.defineProperty(document, 'hidden', {value: hidden, configurable: true});
        document.dispatchEvent(new Event('visibilitychange')); };"""
    site.put("jobs", "zero")
    tab = browser.open(f"{site.url}#/stream", before=fast)
    tab.wait(LIVE)
    tab.value("hide(true)")
    tab.wait("document.querySelector('header').innerText.includes('paused')")
    happens(loop, site, "jobs", "one")
    tab.value("hide(false)")
    tab.wait(f"({KEYS}).join() === 'one'")
    tab.close()


def test_the_first_screen_is_asked_for_at_once(browser: Browser, site: StandIn) -> None:
    """No request that the first rows of a map need waits for the answer to another, and none is made twice."""
    site.put("jobs", "one")
    paths = ("me", "maps", "members", "status", "maps/jobs/records")
    held = [site.hold(path) for path in paths]
    tab = browser.open(f"{site.url}#/map/jobs")
    for each in held:
        each.wait()
    for each in held:
        each.let_go()
    tab.wait(f"{row('one')} && {LIVE}")
    assert sorted(url.partition("/v1/")[2] for url in tab.requests if "/v1/" in url and "watch" not in url) == sorted(
        [*paths[:-1], "maps/jobs/records?limit=200"]
    )
    tab.close()


FIRST = """new MutationObserver((_, seen) => {
  if (!document.querySelector('main')) return;
  window.first = document.querySelectorAll('#tree .row').length;
  seen.disconnect();
}).observe(document, {subtree: true, childList: true});
const real = setTimeout;
window.setTimeout = (call, ms, ...more) => real(call, ms === 50 ? SOON : ms, ...more);"""


@pytest.mark.parametrize(("soon", "rows"), [(60_000, 1), (0, 0)], ids=["soon", "late"])
def test_the_first_drawing_has_rows_if_they_come_soon(browser: Browser, site: StandIn, soon: int, rows: int) -> None:
    """The page waits a moment for what it has asked for, and then shows what is there."""
    site.put("jobs", "one")
    held = site.hold("maps/jobs/records")
    tab = browser.open(f"{site.url}#/map/jobs", before=FIRST.replace("SOON", str(soon)))
    held.wait()
    if not rows:
        tab.wait("document.querySelector('main')")
    held.let_go()
    tab.wait(row("one"))
    assert tab.value("first") == rows
    tab.close()
