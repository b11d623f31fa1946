"""What schemathesis has to know of coord: which texts are keys, what goes together, and that nobody waits for long."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any

import schemathesis
from hypothesis import strategies as st
from schemathesis import GenerationMode

_text = st.characters(exclude_categories=("Cs", "Cc"))

# At most 512 bytes of UTF-8.
schemathesis.openapi.format("coord-key", st.text(_text, min_size=1, max_size=100))
schemathesis.openapi.format("coord-prefix", st.text(_text, max_size=100))
schemathesis.openapi.format("coord-name", st.text("abcXYZ019._-", min_size=1, max_size=20))
schemathesis.openapi.format("coord-id", st.sampled_from(["now", "start", "1.1"]))

_ETAG = re.compile(r'"\d{1,16}\.\d{1,16}"')
_WAITS = {"/wait": "wait", "/lock": "wait", "/fire": "ack_within", "/watch": "follow"}


@schemathesis.hook
def map_case(_: Any, case: Any) -> Any:
    """Keep waits short and streams finite; and of valid requests, leave out what the document cannot exclude."""
    if isinstance(case.query, dict):
        _shorten(case.operation.path, case.query)
        if case.meta is not None and case.meta.generation.mode is GenerationMode.POSITIVE:
            _combine(case.operation.method, case.operation.path, case.query, case.headers)
    return case


def _shorten(path: str, query: dict[str, Any]) -> None:
    name = next((name for end, name in _WAITS.items() if path.endswith(end)), None)
    if name == "follow":
        query[name] = "false"
    elif name is not None:
        with suppress(TypeError, ValueError):
            query[name] = min(float(query.get(name, 1.0)), 0.01)


def _combine(method: str, path: str, query: dict[str, Any], headers: dict[str, Any]) -> None:
    headers.pop("Last-Event-ID", None)
    # Between others, schemathesis fills these in without a look at their pattern.
    if not _ETAG.fullmatch(headers.get("If-Match", "")):
        headers.pop("If-Match", None)
    if query.get("acks") in ("", "0"):
        del query["acks"]
    conflicts = {"holders": "If-None-Match", "ttl": "If-None-Match", "evict": "If-Match"}
    for name, header in conflicts.items():
        if name in query:
            headers.pop(header, None)
    if query.get("for") == "gone":
        query.pop("at_least", None)
    if path.endswith("/count") and method == "post":
        query.setdefault("who", "somebody")
    if isinstance(query.get("map"), list):
        query["map"] = list(dict.fromkeys(query["map"]))
        if len(query["map"]) > 1:
            query.pop("since", None)
