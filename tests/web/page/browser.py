"""Debian's Chromium, driven by its debugging protocol over the WebSocket of aiohttp, which the tests have anyway.

Selenium and Playwright do more, and weigh 40 and 130 MB; these tests evaluate expressions and press keys.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Self, TypeVar

import aiohttp

__all__ = ["CHROMIUM", "Browser", "Loop", "Tab"]

T = TypeVar("T")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
    "--remote-debugging-port=0",
)


class Loop:
    """An asyncio loop in a thread of its own: pytest's has Twisted's reactor."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, T], timeout: float = 60.0) -> T:
        """Run a coroutine there, and return what it returns."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout)

    def close(self) -> None:
        """Stop it."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Browser:
    """One Chromium with a profile of its own; a context manager."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._tabs: dict[str, Tab] = {}

    def __enter__(self) -> Self:
        assert CHROMIUM is not None
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        words = [CHROMIUM, *_FLAGS, f"--user-data-dir={self._folder.name}", "about:blank"]
        self._process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            self._loop.run(self._connect())
        except BaseException:
            self._process.kill()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self._loop.run(self._disconnect())
        # In order it takes seconds, to keep a profile that nobody wants.
        self._process.kill()
        self._process.wait()
        self._folder.cleanup()

    def open(self, url: str, *, width: int = 1440, height: int = 900, before: str = "", cached: bool = True) -> Tab:
        """Open a tab; ``before`` is a script that runs ahead of the page's own; not ``cached``: all is fetched."""
        return self._loop.run(self._open(url, width, height, before, cached=cached))

    async def _connect(self) -> None:
        port = Path(self._folder.name) / "DevToolsActivePort"
        ends = time.monotonic() + 30
        while not (port.exists() and port.read_text().count("\n")):
            assert time.monotonic() < ends, "Chromium does not start"
            await asyncio.sleep(0.02)
        number, path = port.read_text().split()
        self._session = aiohttp.ClientSession()
        self._socket = await self._session.ws_connect(f"ws://127.0.0.1:{number}{path}", max_msg_size=0)
        self._reader = asyncio.ensure_future(self._read())

    async def _disconnect(self) -> None:
        await self._socket.close()
        await self._reader
        await self._session.close()

    async def _read(self) -> None:
        async for message in self._socket:
            data = json.loads(message.data)
            if "id" in data:
                answer = self._answers.pop(data["id"])
                if not answer.done():
                    answer.set_result(data)
            elif "sessionId" in data and data["sessionId"] in self._tabs:
                self._tabs[data["sessionId"]].heard(data["method"], data["params"])

    async def send(self, method: str, session: str | None = None, **parameters: Any) -> Any:
        """Send one command, and return its result."""
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        more = {"sessionId": session} if session else {}
        await self._socket.send_json({"id": number, "method": method, "params": parameters, **more})
        data = await answer
        assert "error" not in data, f"{method}: {data['error']}"
        return data["result"]

    async def _open(self, url: str, width: int, height: int, before: str, *, cached: bool) -> Tab:
        target = (await self.send("Target.createTarget", url="about:blank", newWindow=True))["targetId"]
        session = (await self.send("Target.attachToTarget", targetId=target, flatten=True))["sessionId"]
        tab = self._tabs[session] = Tab(self, self._loop, session, target)
        for domain in ("Page", "Runtime", "Network", "Log"):
            await self.send(f"{domain}.enable", session)
        if before:
            await self.send("Page.addScriptToEvaluateOnNewDocument", session, source=before)
        await self.send("Network.setCacheDisabled", session, cacheDisabled=not cached)
        await tab.resize_soon(width, height)
        await self.send("Page.navigate", session, url=url)
        return tab


class Tab:
    """One tab. ``requests`` are the addresses it asked for, ``errors`` what its console complained of."""

    def __init__(self, browser: Browser, loop: Loop, session: str, target: str) -> None:
        self._browser = browser
        self._loop = loop
        self._session = session
        self._target = target
        self.requests: list[str] = []
        self.errors: list[str] = []

    def heard(self, method: str, params: dict[str, Any]) -> None:
        """Take an event of the protocol."""
        if method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(params["exceptionDetails"]["exception"].get("description", "")))
        elif method == "Log.entryAdded":
            entry = params["entry"]
            if entry["level"] == "error" and entry["source"] != "network":
                self.errors.append(entry["text"])

    async def _send(self, method: str, **parameters: Any) -> Any:
        return await self._browser.send(method, self._session, **parameters)

    async def _value(self, expression: str) -> Any:
        result = await self._send(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True, userGesture=True
        )
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def value(self, expression: str) -> Any:
        """Return what a JavaScript expression evaluates to."""
        return self._loop.run(self._value(expression))

    def wait(self, expression: str, timeout: float = 30.0) -> Any:
        """Wait until an expression is true, and return its value."""
        ends = time.monotonic() + timeout
        # An element cannot be sent here.
        body = f"const found = {expression}; return found instanceof Node || found"
        script = f"(() => {{ try {{ {body} }} catch (error) {{ return null }} }})()"
        while not (value := self.value(script)):
            assert time.monotonic() < ends, f"not true in time: {expression}\n{self.text()}\n{self.errors}"
            time.sleep(0.02)
        return value

    def text(self) -> str:
        """Return the visible text of the page."""
        return str(self.value("document.body.innerText"))

    def click(self, selector: str) -> None:
        """Click the first element, which gets the focus."""
        self.click_on(f"document.querySelector({json.dumps(selector)})")

    def click_on(self, expression: str) -> None:
        """Click the element that an expression finds."""
        self.wait(expression)
        self.value(f"(() => {{ const found = {expression}; found.focus(); found.click() }})()")

    def type(self, text: str) -> None:
        """Type into what has the focus."""
        self._loop.run(self._send("Input.insertText", text=text))

    def press(self, key: str, code: int = 0, text: str = "") -> None:
        """Press a key, such as ``Tab``."""
        more: dict[str, Any] = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        self._loop.run(self._send("Input.dispatchKeyEvent", type="keyDown", **more, **({"text": text} if text else {})))
        self._loop.run(self._send("Input.dispatchKeyEvent", type="keyUp", **more))

    def go(self, place: str) -> None:
        """Go to another place of the page, such as ``#/maps``."""
        self.value(f"location.hash = {json.dumps(place)}")

    async def resize_soon(self, width: int, height: int, scale: float = 1) -> None:
        """Make the window another size."""
        await self._send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=False
        )

    def resize(self, width: int, height: int, scale: float = 1) -> None:
        """Make the window another size, and wait until the page knows."""
        self._loop.run(self.resize_soon(width, height, scale))
        self.wait(f"innerWidth === {width}")

    def media(self, **features: str) -> None:
        """Set what the page's media queries find, such as ``prefers_color_scheme='dark'``."""
        listed = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self._loop.run(self._send("Emulation.setEmulatedMedia", features=listed))

    def picture(self, *, full: bool = False) -> bytes:
        """Return a screenshot as PNG."""
        self.value("new Promise((done) => requestAnimationFrame(() => setTimeout(done, 50)))")
        data = self._loop.run(self._send("Page.captureScreenshot", format="png", captureBeyondViewport=full))
        return base64.b64decode(data["data"])

    def close(self) -> None:
        """Close it."""
        self._loop.run(self._browser.send("Target.closeTarget", targetId=self._target))
