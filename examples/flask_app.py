"""The same service as fastapi_service.py for threads: ``flask --app flask_app run``.

Under gunicorn or uWSGI, each worker process gets a node of its own, also with ``preload``.
"""

import os

from flask import Flask, abort, jsonify, request
from flask.typing import ResponseReturnValue

import coord
import coord.blocking

app = Flask(__name__)
c = coord.blocking.connect(os.environ.get("COORD_URL", "redis://127.0.0.1:6379"))


@app.get("/mounted/<disk>")
def mounted(disk: str) -> ResponseReturnValue:
    """Wait until the disk is mounted, before or after this request, and say where."""
    try:
        return jsonify(c.events("mount").wait(disk, timeout=request.args.get("seconds", 25.0, float)))
    except coord.EventFailed as failed:
        abort(424, str(failed))
    except coord.TimedOut:
        abort(408, "not mounted yet: ask again")


@app.post("/mounted/<disk>")
def mount(disk: str) -> ResponseReturnValue:
    """Tell everybody that the disk is mounted; say whether this request was the first to do so."""
    applied = c.events("mount").fire(disk, {"at": request.args["path"]})
    return jsonify(applied.first)


@app.post("/reports")
def report() -> ResponseReturnValue:
    """Write the report; of all requests at all nodes, one at a time does."""
    try:
        with c.events("jobs").lock("report", timeout=25) as lock:
            # What is written carries the token; who finds a higher one there does not write.
            lock.check()
            return jsonify(lock.token)
    except coord.TimedOut as busy:
        abort(503, str(busy))
