"""A bare site of twisted.web, for ``web.py``: one resource, whose answer is as long as a record of coord's."""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet import reactor
from twisted.web.resource import Resource
from twisted.web.server import Site

_ANSWER = (
    b'{"map":"m","key":"/mnt/abc","kind":"fired","latched":true,"revision":"1795368361942752.1","time":1795368361.94,'
    b'"value":{"disk":7,"at":"/mnt/abc"},"node":"web1.anonymous"}\n'
)


class _Record(Resource):
    """Answers the same each time."""

    isLeaf = True  # noqa: N815 - Twisted's name

    def render_GET(self, request: Any) -> bytes:
        """Answer."""
        request.setHeader(b"content-type", b"application/json")
        return _ANSWER


running: Any = reactor
running.listenTCP(int(sys.argv[1]), Site(_Record()), interface="127.0.0.1")
running.run()
