"""Each route and each error of a call, with curl against a gateway as a process on a real server."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from typing import Any, NamedTuple

import pytest

from coord.web.table import TABLE
from web.conftest import Process

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed (Debian package curl)")

Expected = tuple[int, Any]
PROBLEMS = "urn:coord:problem:"

# Steps of curl on a map of each case's own, and what the last one answers: its status, and members of its body, or the
# name of the problem. "REV" stands for the revision in the answer before, "NEXT" for its `next`.
CASES: dict[str, tuple[list[str], Expected]] = {
    # What stands.
    "nothing stands": (["record?key=k"], (200, {"kind": None, "latched": False, "revision": None, "value": None})),
    "a record": (["fire?key=k -d 7", "record?key=k"], (200, {"kind": "fired", "value": 7, "node": "web1.anonymous"})),
    "a record that is known": (["fire?key=k", "record?key=k -H 'If-None-Match: \"REV\"'"], (304, None)),
    "a record that changed": (
        ["fire?key=k", "reset?key=k", "record?key=k -H 'If-None-Match: \"0.0\"'"],
        (200, {}),
    ),
    "its head": (["fire?key=k", "record?key=k --head"], (200, None)),
    "its holders": (
        ["record?key=k&holders=1"],
        (200, {"holders": {"rule": None, "need": 0, "count": 0}}),
    ),
    "its holders, if": (["record?key=k&holders=1 -H 'If-None-Match: \"0.0\"'"], (400, "invalid-header")),
    "its end": (["fire?key=k&ttl=60 -d 1", "record?key=k&holders=1"], (200, {"kind": "fired", "value": 1})),
    "holders": (["holders?key=k"], (200, {"rule": None, "holders": []})),
    "a key with two slashes": (
        ["fire?key=//a%2F%2Fb", "record?key=%2F/a//b"],
        (200, {"key": "//a//b", "latched": True}),
    ),
    "a key of spaces": (["fire?key=a+b", "record?key=a%20b"], (200, {"key": "a b", "latched": True})),
    "a listing": (["fire?key=a", "fire?key=b -d 2", "records"], (200, {"next": None, "corrupt": []})),
    "a listing without values": (["fire?key=a -d 1", "records?values=false"], (200, {"next": None})),
    "another listing": (["records?next=x"], (400, "invalid-parameter")),
    "a listing of another server": (["records?next=1-0123-1.1-4-1"], (410, "listing-lost")),
    "no key": (["record"], (400, "invalid-parameter")),
    "two keys": (["record?key=a&key=b"], (400, "invalid-parameter")),
    "an empty key": (["record?key="], (400, "invalid-key")),
    "a long key": ([f"record?key={'k' * 513}"], (400, "invalid-key")),
    "a control character": (["fire?key=%07"], (400, "invalid-key")),
    "not UTF-8": (["record?key=%ff"], (400, "invalid-parameter")),
    "no number": (["fire?key=null&ttl=null"], (400, {"parameter": "ttl", "applied": False})),
    "a key that is named null": (["fire?key=null", "record?key=null"], (200, {"key": "null", "latched": True})),
    "a condition that is not known": (["records -H 'If-None-Match: \"1.1\"'"], (400, "invalid-header")),
    "an unknown parameter": (["record?key=k&kye=k"], (400, {"parameter": "kye"})),
    # Waiting.
    "a wait": (["fire?key=k -d 7", "wait?key=k"], (200, {"events": [{"key": "k", "value": 7}]})),
    "a wait in vain": (["wait?key=k&wait=0.01"], (408, "timed-out")),
    "a look in vain": (["wait?key=k&wait=0"], (408, {"revision": "0.0"})),
    "a lenient wait": (["wait?key=k&wait=0.01 -H 'Prefer: handling=lenient'"], (200, {"events": []})),
    "a wait for what was": (
        ["fire?key=other", "pulse?key=k -d 7", "wait?key=k&since=0.1&wait=1"],
        (200, {"events": [{"kind": "pulsed", "value": 7, "node": "web1.anonymous"}]}),
    ),
    "a wait for what was reset": (
        ["fire?key=k -d 7", "reset?key=k", "wait?key=k&since=0.1&wait=1"],
        (200, {"events": [{"kind": "fired", "value": 7, "node": None, "time": None, "latched": False}]}),
    ),
    "a wait behind what was": (["pulse?key=k", "wait?key=k&since=REV&wait=0"], (408, "timed-out")),
    "a wait for any": (["fire?key=b", "wait?key=a&key=b&for=any"], (200, {"events": [{"key": "b"}]})),
    "a wait for all": (["fire?key=b", "wait?key=a&key=b&wait=0"], (408, "timed-out")),
    "a wait for an end": (["wait?key=a&for=gone"], (200, {"events": [{"key": "a", "kind": None}]})),
    "a wait for an end in vain": (["fire?key=a", "wait?key=a&for=gone&wait=0"], (408, "timed-out")),
    "a wait for a count": (["count?key=c&who=a", "wait?key=c&at_least=1"], (200, {"events": [{"value": 1}]})),
    "a wait for many": (["fire?key=b", """wait?for=any -d '{"keys":["a","b"]}'"""], (200, {"events": [{"key": "b"}]})),
    "a wait for none": (["wait"], (400, {"parameter": "key"})),
    "a wait for none of many": (["""wait -d '{"keys":[]}'"""], (400, "invalid-body")),
    "a wait for a bad revision": (["wait?key=k&since=yesterday"], (400, {"parameter": "since"})),
    "a wait for a failure": (["fail?key=k -d '\"no disk\"'", "wait?key=k"], (424, {"reason": "no disk", "key": "k"})),
    "a long wait": (["wait?key=k&wait=301"], (400, {"parameter": "wait"})),
    "an end and a count": (["wait?key=k&for=gone&at_least=2"], (400, {"parameter": "at_least"})),
    "subscribers": (["subscribers?key=k"], (200, {"subscribers": {"k": 0}})),
    "subscribers of many": (["""subscribers -d '{"keys":["a","b"]}'"""], (200, {"subscribers": {"a": 0, "b": 0}})),
    "subscribers of none": (["subscribers"], (400, {"parameter": "key"})),
    "what is waited for": (["waiting"], (200, {"waiting": [], "more": False})),
    # Calls.
    "a fire": (["fire?key=k -d '{\"a\":[1]}'"], (200, {"first": True, "record": {"value": {"a": [1]}}})),
    "a fire of text": (
        ["fire?key=k -d é -H 'Content-Type: text/plain; charset=utf-8'"],
        (200, {"record": {"value": "é"}}),
    ),
    "a fire of nothing": (["fire?key=k -X POST"], (200, {"record": {"value": True}})),
    "a second fire": (["fire?key=k -d 1", "fire?key=k -d 2"], (200, {"first": False, "record": {"value": 1}})),
    "a second fire, if new": (
        ["fire?key=k -d 1", "fire?key=k -d 2 -H 'If-None-Match: *'"],
        (412, {"applied": False, "record": {"value": 1}}),
    ),
    "a fire, if new": (["fire?key=k -d 2 -H 'If-None-Match: *'"], (200, {"first": True})),
    "a fire, if another": (["fire?key=k -H 'If-None-Match: \"1.1\"'"], (400, "invalid-header")),
    "a fire with a TTL, if new": (["fire?key=k&ttl=1 -H 'If-None-Match: *'"], (400, "invalid-header")),
    "a fire of no JSON": (["fire?key=k -d {"], (400, "invalid-body")),
    "a fire of a large value": (["fire?key=k --data-binary @LARGE"], (413, "invalid-value")),
    "a fire of a form": (["fire?key=k -F a=b"], (415, "media-type")),
    "a fire for replicas": (["fire?key=k&replicas=1&within=0.05"], (504, {"applied": True, "first": True})),
    "a fire for replicas for long": (["fire?key=k&replicas=1&within=3"], (400, {"parameter": "within"})),
    "a fire for nobody": (["fire?key=k&acks=a,b&ack_within=0.05"], (408, {"applied": True, "missing": ["a", "b"]})),
    "a fire for a bad name": (["fire?key=k&acks=a,,b"], (400, {"parameter": "acks"})),
    "a fire for nobody at all": (["fire?key=k&acks=0"], (400, {"parameter": "acks"})),
    "a fire of a counter": (["count?key=c&who=a", "fire?key=c"], (409, {"applied": False})),
    "a fire by a name": (
        [
            "fire?key=k -d 1 -H 'Idempotency-Key: \"a-1\"'",
            "reset?key=k",
            "fire?key=k -d 1 -H 'Idempotency-Key: a-1'",
        ],
        (200, {"first": True}),
    ),
    "another fire by the name": (
        ["fire?key=k -d 1 -H 'Idempotency-Key: a-1'", "fire?key=k -d 2 -H 'Idempotency-Key: a-1'"],
        (422, {"applied": False}),
    ),
    "a fire by a bad name": (["fire?key=k -H 'Idempotency-Key: a b'"], (400, "invalid-header")),
    "a failure": (["fail?key=k -d '\"no\"'"], (200, {"first": True, "record": {"kind": "failed", "value": "no"}})),
    "a pulse": (["pulse?key=k -d 1"], (200, {"first": True, "record": {"kind": "pulsed", "latched": False}})),
    "a reset": (["fire?key=k", "reset?key=k"], (200, {"first": True, "record": {"kind": "reset"}})),
    "a reset of nothing": (["reset?key=k"], (200, {"first": False, "record": {"kind": None}})),
    "a reset, if": (["fire?key=k", "reset?key=k -H 'If-Match: \"REV\"'"], (200, {"first": True})),
    "a reset, if another": (
        ["fire?key=k -d 5", "reset?key=k -H 'If-Match: \"1.1\"'"],
        (412, {"applied": False, "record": {"value": 5}}),
    ),
    "a reset, if weak": (["reset?key=k -H 'If-Match: W/\"1.1\"'"], (400, "invalid-header")),
    "a reset with a body": (["reset?key=k -d 1"], (400, "invalid-body")),
    "an eviction": (["reset?key=k&evict=true"], (200, {"first": False})),
    "an eviction, if": (["reset?key=k&evict=true -H 'If-Match: \"1.1\"'"], (400, "invalid-header")),
    "a renewal": (["fire?key=k&ttl=5", "renew?key=k&ttl=50"], (200, {"first": True})),
    "a renewal of what stands": (["fire?key=k", "renew?key=k&ttl=50"], (200, {"first": False})),
    "a renewal for no time": (["renew?key=k"], (400, {"parameter": "ttl"})),
    # Counters.
    "a count": (
        ["count?key=c&who=a&by=2&goal=2"],
        (200, {"count": 2, "goal": 2, "reached": True}),
    ),
    "a count by a name": (
        2 * ["count?key=c -X POST -H 'Idempotency-Key: 1'"],
        (200, {"count": 1}),
    ),
    "a second count": (["count?key=c&who=a", "count?key=c&who=a"], (200, {"count": 1, "first": False})),
    "a count by nobody": (["count?key=c -X POST"], (400, {"parameter": "who"})),
    "a count of nothing": (["count?key=c&who=a&by=0"], (400, {"parameter": "by"})),
    "another goal": (["count?key=c&who=a&goal=3", "count?key=c&who=b&goal=4"], (409, {"applied": False})),
    "what is counted": (["count?key=c&who=a&goal=3", "count?key=c"], (200, {"count": 1, "reached": False})),
    "nothing is counted": (["count?key=c"], (200, {"count": 0, "goal": None, "revision": None})),
    "an event is no counter": (["fire?key=k", "count?key=k"], (409, "in-use")),
    # Acknowledgements.
    "an acknowledgement": (["fire?key=k", "ack?key=k&revision=REV"], (200, {"name": "anonymous"})),
    "who has acknowledged": (
        ["fire?key=k", "ack?key=k&revision=REV", "acks?key=k&revision=REV&by=anonymous,b"],
        (200, {"names": ["anonymous"], "missing": ["b"]}),
    ),
    "a bad revision": (["acks?key=k&revision=1"], (400, {"parameter": "revision"})),
    # All maps.
    "maps": (["fire?key=k", "/v1/maps"], (200, {})),
    # Other tests join and leave at this gateway.
    "members": (["/v1/members?prefix=nobody"], (200, {"members": [], "next": None})),
    "other members": (["/v1/members?next=x"], (400, "invalid-parameter")),
    "members of another server": (["/v1/members?next=1-0123-1.1-4-1"], (410, "listing-lost")),
    "status": (["/v1/status"], (200, {"link": "connected", "gateway": "web1", "server": {"role": "primary"}})),
    # Routes.
    "a bad map": (["/v1/maps/a%20b/record?key=k"], (400, "invalid-name")),
    "no such route": (["/v1/maps/m/recrod"], (404, "not-found")),
    "no such method": (["record?key=k -X PATCH"], (405, "method")),
}


_CALL = re.compile(r"(fire|fail|pulse|reset|renew|count\?.*who|ack)\b")
_HAS_BODY = re.compile(r" (-d|-F|-X|--data-binary) ")


class Told(NamedTuple):
    """What curl has got."""

    status: int
    headers: str
    body: Any


def curl(url: str, words: str) -> Told:
    """Send a request with curl; a word that follows the URL is an argument."""
    target, *arguments = shlex.split(words)
    ended = subprocess.run(
        ("curl", "-sS", "-D", "/dev/stderr", "--max-time", "20", "--path-as-is", url + target, *arguments),
        capture_output=True,
        check=True,
        timeout=30,
    )
    headers = ended.stderr.decode()
    status = int(re.findall(r"^HTTP/1.1 (\d+)", headers, re.MULTILINE)[-1])
    return Told(status, headers, json.loads(ended.stdout) if ended.stdout and "--head" not in arguments else None)


def assert_has(found: Any, expected: Any) -> None:
    """Assert that what is found has all that is expected, and maybe more members."""
    if isinstance(expected, dict):
        for name, part in expected.items():
            assert name in found, found
            assert_has(found[name], part)
    elif isinstance(expected, list):
        assert len(found) == len(expected), found
        for each, part in zip(found, expected, strict=True):
            assert_has(each, part)
    else:
        assert found == expected, (found, expected)


def _revision(body: Any) -> str:
    found = body.get("revision") or body.get("record", {}).get("revision")
    return str(found)


@pytest.mark.parametrize("name", CASES)
def test_route(name: str, gateway_process: Process, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Each step but the last succeeds; the last answers as expected."""
    steps, (status, expected) = CASES[name]
    base = f"{gateway_process.url}/v1/maps/{re.sub('[^a-z]', '-', name.lower())}/"
    revision = ""
    for number, step in enumerate(steps, 1):
        words = step.replace("REV", revision)
        if "LARGE" in words:
            large = tmp_path_factory.mktemp("large") / "value"
            large.write_text(json.dumps("x" * 65_536))
            words = words.replace("LARGE", str(large))
        if _CALL.match(words) and not _HAS_BODY.search(words):
            words += " -X POST"
        url = gateway_process.url if words.startswith("/") else base
        told = curl(url, words)
        if number < len(steps):
            assert told.status == 200, told
            revision = _revision(told.body)
    assert told.status == status, told
    if isinstance(expected, str):
        expected = {"type": PROBLEMS + expected, "status": status}
    if expected is not None:
        assert_has(told.body, expected)
    if status in (408, 429, 503):
        assert "\nRetry-After: 1\r" in told.headers


def test_each_route_has_a_case() -> None:
    """Those of this file's subject: what is not a stream, a lease or a session."""
    others = ("watch", "hold", "lock", "lease", "session", "me", "members/")
    words = " ".join(step for steps, _ in CASES.values() for step in steps)
    for route in TABLE:
        last = route.template.removeprefix("/v1/maps/{map}/").removeprefix("/v1/")
        if route.template.startswith("/v1") and not last.startswith(others):
            assert f"{last}" in words, route
