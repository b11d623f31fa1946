"""Takes pictures of every screen, to be looked at: ``python -m web.page.pictures FOLDER`` in ``tests``.

With ``docs`` as the folder it takes those of the documentation. They are of the stand-in, so that they always show the
same; redraw them when the page looks different.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from web.page.browser import Browser, Loop, Tab
from web.page.scenes import hostile, many, trouble, well
from web.page.standin import StandIn, user

SIZES = {"wide": (1440, 900), "small": (360, 740)}
READ = "document.querySelector('main h1') && !document.body.innerText.includes('reading')"
PLACES = {
    "now": "#/now",
    "maps": "#/maps?sort=-failed",
    "map": "#/map/deploy",
    "disks": "#/map/disks",
    "sorted": "#/map/disks?sort=-state",
    "hostile": "#/map/hostile",
    "key": "#/key/locks?key=nightly",
    "failed": "#/key/deploy?key=backup%2Fdb",
    "count": "#/key/build?key=shards",
    "members": "#/members",
    "stream": "#/stream",
    "access": "#/access",
}


DOCS = {
    "web-now": ("#/now", 1200, 820, "light"),
    "web-map": ("#/map/deploy", 1200, 520, "light"),
    "web-key": ("#/key/locks?key=nightly", 1200, 640, "dark"),
    "web-small": ("#/now", 360, 740, "dark"),
}
"""The pictures of the documentation: place, width, height and scheme."""


def docs() -> None:
    """Take the pictures of the documentation."""
    folder = Path(__file__).parents[3] / "docs" / "images"
    loop, site = Loop(), StandIn()
    trouble(site)
    site.me = user("oncall", "read:*", "write:*", "evict:locks", session="s2")
    loop.run(site.start())
    with Browser(loop) as browser:
        for name, (place, width, height, scheme) in DOCS.items():
            tab = browser.open(f"{site.url}#/now", width=width, height=height)
            tab.media(prefers_color_scheme=scheme)
            tab.wait("document.querySelector('header').innerText.includes('live')")
            busy(site)
            tab.go(place)
            tab.wait(f"{READ} && document.querySelector('.who:not(:empty)')")
            shot(tab, folder, name, [])
            tab.close()
    loop.run(site.stop())
    loop.close()


def busy(site: StandIn) -> None:
    """Let a quarter of an hour of changes pass at once."""
    for minute in range(14, -1, -1):
        for number in range(1 + (minute * minute * 7) % 5):
            at = time.time() - 60 * minute - number
            site.put("deploy", "nightly/begun", "pulsed", number, node="cron", time=at)
            site.put("build", "shards", "counted", 3, node="ci", goal=8, time=at)


def main(folder: Path, only: list[str]) -> None:
    """Take all pictures, or only those whose names begin so."""
    folder.mkdir(parents=True, exist_ok=True)
    loop = Loop()
    site = StandIn()
    trouble(site)
    hostile(site)
    many(site)
    site.me = user("oncall", "read:*", "write:*", "evict:locks", session="s2")
    calm = StandIn()
    well(calm)
    for each in (site, calm):
        loop.run(each.start())
    with Browser(loop) as browser:
        for scheme in ("light", "dark"):
            for size, (width, height) in SIZES.items():
                tab = browser.open(site.url, width=width, height=height)
                tab.media(prefers_color_scheme=scheme)
                shots(tab, folder, f"{size}-{scheme}", site, only)
                tab.close()
        tab = browser.open(calm.url)
        tab.wait(READ)
        shot(tab, folder, "calm-wide-light", only)
    loop.run(site.stop())
    loop.run(calm.stop())
    loop.close()


def shots(tab: Tab, folder: Path, kind: str, site: StandIn, only: list[str]) -> None:
    """Take the pictures of one size and scheme."""
    tab.wait(READ, 30)
    tab.wait("document.querySelector('.trouble')")
    for record in list(site.maps["build"].values())[:2]:
        site.put("build", str(record["key"]), str(record["kind"]), record["value"], node="ci", **rare(record))
    for name, place in PLACES.items():
        tab.go(place)
        tab.wait("document.querySelector('main h1')")
        tab.wait(READ)
        shot(tab, folder, f"{name}-{kind}", only)
    tab.click(".allow input")
    for verb, place in (("fire", "#/key/deploy?key=web%2Fapproved"), ("evict", PLACES["key"])):
        tab.go(place)
        tab.wait(READ)
        tab.click(".buttons button:not(:disabled)")
        tab.wait("document.querySelector('dialog[open]')")
        shot(tab, folder, f"dialog-{verb}-{kind}", only)
        tab.press("Escape", 27)
        tab.wait("!document.querySelector('dialog')")


def rare(record: dict[str, object]) -> dict[str, object]:
    """Return the fields that only some records have."""
    return {name: record[name] for name in ("goal", "token", "held") if name in record}


def shot(tab: Tab, folder: Path, name: str, only: list[str]) -> None:
    """Take one picture, and complain about what sticks out."""
    if only and not name.startswith(tuple(only)):
        return
    (folder / f"{name}.png").write_bytes(tab.picture())
    wide = tab.value("document.documentElement.scrollWidth - innerWidth")
    if wide > 0:
        sys.stderr.write(f"{name}: {wide} px too wide\n")
    if tab.errors:
        sys.stderr.write(f"{name}: {tab.errors}\n")
        tab.errors.clear()


if __name__ == "__main__":
    if sys.argv[1] == "docs":
        docs()
    else:
        main(Path(sys.argv[1]), sys.argv[2:])
