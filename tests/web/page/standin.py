"""A gateway that says what it is told to: the page's answers and stream, without coord behind it.

Screenshots and tests of states that a real cluster does not get into on demand: a lost link, hostile names, ten
thousand keys, a session that ends.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from typing import Any

from aiohttp import web

from coord.web.assets import POLICY, load

__all__ = ["GENERATION", "MEMBERS", "Held", "StandIn", "user"]

MEMBERS = "@members"
GENERATION = 1795368361942752


def user(name: str, *rights: str, session: str = "") -> dict[str, Any]:
    """Return what the gateway says of who asks."""
    return {
        "name": name,
        "anonymous": name == "anonymous",
        "rights": rights,
        "expires": None if name == "anonymous" else 1798761600,
        "session": session,
        "gateway": "web1",
        "namespace": "default",
    }


class Held:
    """One answer that is kept back until it is let go: it says what was so when it was asked for."""

    def __init__(self) -> None:
        self._asked = threading.Event()
        self._free = threading.Event()
        self._sent = threading.Event()

    async def keep(self, request: web.Request, response: web.StreamResponse) -> None:
        """Keep an answer, then send it."""
        self._asked.set()
        try:
            await asyncio.to_thread(self._free.wait, 60)
            await response.prepare(request)
            await response.write_eof()
        finally:
            self._sent.set()

    def wait(self) -> None:
        """Wait until it was asked for."""
        assert self._asked.wait(30), "nobody asked for it"

    def let_go(self) -> None:
        """Send it, if whoever asked is still there."""
        self._free.set()
        assert self._sent.wait(30), "it was not sent"


def _page(request: web.Request, listing: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], str | None]:
    """Return the page of a listing that a request is for, and the `next` of the following one."""
    at, limit = int(request.query.get("next", 0)), int(request.query.get("limit", 1000))
    return listing[at : at + limit], str(at + limit) if at + limit < len(listing) else None


class StandIn:
    """What the gateway answers; change it as you like."""

    def __init__(self) -> None:
        self.maps: dict[str, dict[str, dict[str, Any]]] = {}
        self.corrupt: dict[str, list[str]] = {}
        self.waiting: dict[str, dict[str, int]] = {}
        self.holders: dict[tuple[str, str], dict[str, Any]] = {}
        self.members: list[dict[str, Any]] = []
        self.history: list[dict[str, Any]] = []
        self.heads: dict[str, int] = {}
        self.me = user("anonymous", "read:*")
        self.tokens: dict[str, dict[str, Any]] = {}
        self.session_over = False
        self.status: dict[str, Any] = {
            "namespace": "default",
            "link": "connected",
            "reason": "",
            "server": {
                "address": "redis://127.0.0.1:6379",
                "role": "primary",
                "version": "Redis 7.0.15",
                "persistence": "append-only file",
                "warnings": [],
            },
            "gateway": "web1",
            "version": "0.1.0",
            "streams": 1,
            "waits": 3,
        }
        self.calls: list[tuple[str, str, dict[str, str], Any]] = []
        self.streams: set[asyncio.Queue[dict[str, Any] | None]] = set()
        self.opened = 0
        self.lose = False
        self.away = False
        self.refused = threading.Event()
        self.sloppy = False
        self.log_ins = 0
        self._held: dict[str, Held] = {}
        self._runner: web.AppRunner | None = None
        self.port = 0

    # What happens in the cluster.

    def put(self, map_name: str, key: str, kind: str = "fired", value: Any = True, **more: Any) -> dict[str, Any]:
        """Make a change; return its record."""
        number = self.heads[map_name] = self.heads.get(map_name, 0) + 1
        record = {
            "map": map_name,
            "key": key,
            "kind": kind,
            "latched": kind in ("fired", "failed"),
            "value": None if kind in ("reset", "expired", "withdrawn") else value,
            "revision": f"{GENERATION}.{number}",
            "time": time.time(),
            "node": "node1",
            **more,
        }
        if map_name != MEMBERS:
            self.maps.setdefault(map_name, {})[key] = record
        self.history.append(record)
        for stream in self.streams:
            stream.put_nowait(record)
        return record

    def hold(self, path: str) -> Held:
        """Keep back the answer to the next request for a path."""
        held = self._held[f"/v1/{path}"] = Held()
        return held

    # The server.

    async def start(self, port: int = 0) -> None:
        """Listen on a port of this machine."""
        app = web.Application(middlewares=[self._headers])
        v1 = "/v1/maps/{map}"
        app.add_routes(
            [
                web.get("/v1/me", self._me),
                web.post("/v1/session", self._log_in),
                web.delete("/v1/session", self._log_out),
                web.get("/v1/status", self._status),
                web.get("/v1/maps", self._maps),
                web.get("/v1/members", self._members),
                web.get("/v1/watch", self._watch),
                web.get(f"{v1}/records", self._records),
                web.get(f"{v1}/record", self._record),
                web.get(f"{v1}/holders", self._holders),
                web.get(f"{v1}/subscribers", self._subscribers),
                web.get(f"{v1}/waiting", self._waiting),
                web.post(v1 + "/{verb}", self._call),
                web.get("/", self._file),
                web.get("/{file:.*}", self._file),
            ]
        )
        self._runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", port or self.port, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Close everything, as a gateway that is killed."""
        await self.cut()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def cut(self, *, away: bool = False) -> None:
        """End the streams; ``away``: and answer with a proxy's 502 from now on, until it is told otherwise."""
        self.away = away
        for stream in self.streams:
            stream.put_nowait(None)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}/"

    @web.middleware
    async def _headers(self, request: web.Request, handler: Any) -> web.StreamResponse:
        held = self._held.pop(request.path, None)
        response: web.StreamResponse
        if self.session_over and request.path.startswith("/v1/") and request.path not in ("/v1/session", "/v1/me"):
            response = web.json_response({"title": "no token", "status": 401}, status=401)
        else:
            response = await handler(request)
        if held is not None:
            await held.keep(request, response)
        return response

    async def _file(self, request: web.Request) -> web.StreamResponse:
        assets = load()
        path = request.match_info.get("file", "")
        asset = assets.others.get(path.removeprefix(f"page/{assets.digest}/")) if path else assets.first
        if asset is None:
            raise web.HTTPNotFound
        headers = {"Content-Type": asset.content_type, "Content-Security-Policy": POLICY, "Cache-Control": "no-cache"}
        return web.Response(body=asset.body, headers=headers)

    async def _me(self, _request: web.Request) -> web.Response:
        return web.json_response(user("anonymous") if self.session_over else self.me)

    async def _log_in(self, request: web.Request) -> web.Response:
        self.log_ins += 1
        token = (await request.json())["token"]
        if token not in self.tokens:
            return web.json_response({"title": "no such token", "status": 401}, status=401)
        self.me = self.tokens[token]
        self.session_over = False
        return web.Response(status=204)

    async def _log_out(self, _request: web.Request) -> web.Response:
        self.me = user("anonymous", "read:*")
        return web.Response(status=204)

    async def _status(self, _request: web.Request) -> web.Response:
        return web.json_response(self.status)

    async def _maps(self, _request: web.Request) -> web.Response:
        return web.json_response({"maps": sorted(self.maps)})

    async def _members(self, request: web.Request) -> web.Response:
        page, after = _page(request, self.members)
        return web.json_response({"revision": self._head(MEMBERS), "members": page, "next": after})

    async def _records(self, request: web.Request) -> web.Response:
        name = request.match_info["map"]
        page, after = _page(request, list(self.maps.get(name, {}).values()))
        corrupt = self.corrupt.get(name, []) if "next" not in request.query else []
        body = {"revision": self._head(name), "records": page, "corrupt": corrupt}
        return web.json_response({**body, "next": after})

    async def _record(self, request: web.Request) -> web.Response:
        name, key = request.match_info["map"], request.query["key"]
        if key in self.corrupt.get(name, ()):
            problem = {"type": "urn:coord:problem:corrupt-record", "title": "the record is corrupt", "status": 502}
            return web.json_response(problem, status=502)
        absent = {"kind": None, "latched": False, "value": None, "revision": None, "time": None, "node": None}
        record = self.maps.get(name, {}).get(key, {"map": name, "key": key, **absent})
        return web.json_response({**record, "holders": self._of(name, key)})

    def _of(self, name: str, key: str) -> dict[str, Any]:
        return self.holders.get((name, key), {"rule": None, "need": 1, "count": 0, "holders": []})

    async def _holders(self, request: web.Request) -> web.Response:
        return web.json_response(self._of(request.match_info["map"], request.query["key"]))

    async def _subscribers(self, request: web.Request) -> web.Response:
        waiting = self.waiting.get(request.match_info["map"], {})
        return web.json_response({"subscribers": {key: waiting.get(key, 0) for key in request.query.getall("key")}})

    async def _waiting(self, request: web.Request) -> web.Response:
        waiting = self.waiting.get(request.match_info["map"], {})
        listed = [{"key": key, "subscribers": nodes, "kind": None} for key, nodes in waiting.items()]
        return web.json_response({"waiting": listed, "more": False})

    async def _call(self, request: web.Request) -> web.Response:
        name, verb = request.match_info["map"], request.match_info["verb"]
        text = await request.text()
        body = json.loads(text) if text else None
        self.calls.append((verb, name, dict(request.query), body))
        kind = {"fire": "fired", "fail": "failed", "pulse": "pulsed", "reset": "reset"}[verb]
        return web.json_response({"first": True, "record": self.put(name, request.query["key"], kind, body)})

    def _head(self, name: str) -> str:
        return f"{GENERATION}.{self.heads.get(name, 0)}"

    # The stream.

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        maps = request.query.getall("map")
        if self.away:
            self.refused.set()
            raise web.HTTPBadGateway
        at = self._positions(request.headers.get("Last-Event-ID") or request.query.get("since", "now"), maps)
        if request.query.get("follow") == "false":
            return self._past(request, maps, at)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
        queue: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        past = list(self.history)
        self.streams.add(queue)
        self.opened += 1
        try:
            await response.prepare(request)
            await response.write(b"retry: 200\n\n")
            if self.lose:
                self.lose = False
                at = {name: self.heads.get(name, 0) for name in maps}
                for name in maps:
                    await self._frame(response, at, "lost", {"map": name, "asked": "0.0", "head": self._head(name)})
            if self.sloppy and past:
                at = {name: max(number - 1, 0) for name, number in at.items()}
            for record in past:
                await self._change(response, at, record)
            await self._frame(response, at, "caught-up", {})
            while (record_or_end := await queue.get()) is not None:
                await self._change(response, at, record_or_end)
            if self.session_over:
                await response.write(b'event: end\ndata: {"status": 401, "detail": "the token has expired"}\n\n')
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self.streams.discard(queue)
        return response

    def _past(self, request: web.Request, maps: list[str], at: dict[str, int]) -> web.Response:
        prefix = request.query.get("prefix", "")
        found = [each for each in self.history if each["map"] in maps and each["key"].startswith(prefix)]
        lines = [{"id": each["revision"], "data": each} for each in found if _number(each) > at[each["map"]]]
        text = "".join(json.dumps(line) + "\n" for line in [*lines, {"id": "", "event": "caught-up", "data": {}}])
        return web.Response(text=text, content_type="application/x-ndjson")

    def _positions(self, since: str, maps: list[str]) -> dict[str, int]:
        given = dict(part.rsplit("@", 1) for part in since.split(",")) if "@" in since else {}
        return {name: self._position(name, given.get(name, since)) for name in maps}

    def _position(self, name: str, text: str) -> int:
        return self.heads.get(name, 0) if text == "now" else 0 if text == "start" else int(text.split(".")[1])

    async def _change(self, response: web.StreamResponse, at: dict[str, int], record: dict[str, Any]) -> None:
        if record["map"] in at and _number(record) > at[record["map"]]:
            at[record["map"]] = _number(record)
            await self._frame(response, at, "", record)

    async def _frame(self, response: web.StreamResponse, at: dict[str, int], event: str, data: Any) -> None:
        several = ",".join(f"{name}@{GENERATION}.{number}" for name, number in at.items())
        where = several if len(at) > 1 else several.rpartition("@")[2]
        named = f"event: {event}\n" if event else ""
        await response.write(f"id: {where}\n{named}data: {json.dumps(data)}\n\n".encode())


def _number(record: dict[str, Any]) -> int:
    return int(str(record["revision"]).split(".")[1])
