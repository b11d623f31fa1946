"""Streams to real clients: curl, an EventSource, and either of them behind nginx."""

from __future__ import annotations

import json
import shutil
import subprocess
from http.client import HTTPConnection
from itertools import count
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import pytest

from web.conftest import Process
from web.eventsource import Event, Parser
from web.nginx import needs_nginx, nginx

needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed (Debian package curl)")

_PATIENCE: Final = 20.0
_numbers = count()


@pytest.fixture
def name() -> str:
    """Return the name of a map of the test's own."""
    return f"map{next(_numbers)}"


def pulse(url: str, name: str, value: object) -> str:
    """Make a change; return its revision."""
    request = Request(f"{url}/v1/maps/{name}/pulse?key=k", json.dumps(value).encode(), method="POST")
    with urlopen(request, timeout=_PATIENCE) as answer:
        revision: str = json.load(answer)["record"]["revision"]
        return revision


class Source:
    """An EventSource in Python: one connection of it."""

    def __init__(self, url: str, name: str, last: str = "") -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        self._connection = HTTPConnection(parts.hostname, parts.port, timeout=_PATIENCE)
        headers = {"Accept": "text/event-stream", **({"Last-Event-ID": last} if last else {})}
        self._connection.request("GET", f"/v1/watch?map={name}", headers=headers)
        self.answer = self._connection.getresponse()
        self.parser = Parser(last)
        self._events: list[Event] = []

    def next(self) -> Event:
        """Return the next event."""
        while not self._events:
            data = self.answer.read1(65_536)
            assert data, "the stream has ended"
            self._events += self.parser.feed(data)
        return self._events.pop(0)

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        """Hang up."""
        self.answer.close()
        self._connection.close()


def curl(*words: str) -> subprocess.CompletedProcess[bytes]:
    """Run curl to its end."""
    return subprocess.run(["curl", "-sS", *words], capture_output=True, timeout=_PATIENCE, check=False)


@needs_curl
def test_curl_follows(gateway_process: Process, name: str) -> None:
    """Each change is a line as soon as it is there."""
    words = ["curl", "-sN", "-H", "Accept: application/x-ndjson", f"{gateway_process.url}/v1/watch?map={name}"]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["event"] == "caught-up"
        for number in range(3):
            revision = pulse(gateway_process.url, name, number)
            line = json.loads(process.stdout.readline())
            assert (line["id"], line["data"]["value"]) == (revision, number)
        process.kill()


@needs_curl
def test_curl_reads_the_past(gateway_process: Process, name: str) -> None:
    """Without following it ends by itself; -f makes lost history an error."""
    first = pulse(gateway_process.url, name, 1)
    second = pulse(gateway_process.url, name, 2)
    watch = f"{gateway_process.url}/v1/watch?map={name}&follow=false"
    past = curl("-f", "-H", f"Last-Event-ID: {first}", watch)
    assert past.returncode == 0
    assert [event.id for event in Parser().feed(past.stdout)] == [second, second]
    lost = curl("-f", f"{watch}&since=1.1")
    assert (lost.returncode, b"410" in lost.stderr) == (22, True)
    assert b"history-lost" in curl(f"{watch}&since=1.1").stdout


@needs_curl
def test_curl_asks_for_the_head(gateway_process: Process, name: str) -> None:
    """HEAD says what it would be, and is no stream."""
    head = curl("-I", f"{gateway_process.url}/v1/watch?map={name}").stdout.lower()
    assert head.startswith(b"http/1.1 200 ")
    assert b"content-type: text/event-stream" in head
    assert b"cache-control: no-store" in head


def test_an_event_source_comes_back(gateway_process: Process, name: str) -> None:
    """It goes on with what it has missed, by its last id."""
    with Source(gateway_process.url, name) as source:
        assert source.next().type == "caught-up"
        pulse(gateway_process.url, name, 1)
        assert source.next().json["value"] == 1
    for number in (2, 3):
        pulse(gateway_process.url, name, number)
    with Source(gateway_process.url, name, source.parser.last_id) as again:
        found = [again.next() for _ in range(3)]
        assert [event.json["value"] for event in found if event.type == "message"] == [2, 3]


# Behind nginx.


@needs_nginx
@pytest.mark.parametrize(
    "more",
    ["", "proxy_buffering off;", "proxy_http_version 1.1; proxy_set_header Connection '';"],
    ids=["as it is", "not buffering", "HTTP/1.1"],
)
def test_nginx_passes_each_change_at_once(gateway_process: Process, name: str, more: str, tmp_path: Path) -> None:
    """A header of ours keeps nginx from buffering a stream; a client comes back through it, too."""
    with nginx(tmp_path, gateway_process.url, more) as url:
        with Source(url, name) as source:
            assert source.next().type == "caught-up"
            for number in range(3):
                pulse(url, name, number)
                assert source.next().json["value"] == number
        pulse(url, name, 3)
        with Source(url, name, source.parser.last_id) as again:
            # Its past may be over before the gateway has heard of the change.
            found = [again.next() for _ in range(2)]
            assert [event.json["value"] for event in found if event.type == "message"] == [3]


@needs_nginx
def test_keys_pass_nginx_as_they_are(gateway_process: Process, name: str, tmp_path: Path) -> None:
    """Slashes of keys are neither merged nor decoded on the way."""
    with (
        nginx(tmp_path, gateway_process.url, "") as url,
        urlopen(f"{url}/v1/maps/{name}/record?key=/mnt//a%2F%2Fb", timeout=_PATIENCE) as answer,
    ):
        assert json.load(answer)["key"] == "/mnt//a//b"
