"""Runs an example until SIGTERM, and looks at what it has left: ``python run_example.py NAME PORT``."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import threading
from importlib import import_module
from pathlib import Path
from typing import Any

_HERE = Path(__file__)
sys.path[:0] = [str(_HERE.parents[1]), str(_HERE.parents[2] / "examples")]

from doors.left import nothing_left  # noqa: E402 - from there


def fastapi(port: int) -> None:
    """Run it under uvicorn."""
    import uvicorn

    module: Any = import_module("fastapi_service")
    # uvicorn sends itself the signal again at the end, and its first loop, if it is uvloop's, opens descriptors for the
    # whole process.
    signal.signal(signal.SIGTERM, lambda *_: None)
    config = uvicorn.Config(module.app, port=port, log_level="warning")
    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(asyncio.sleep(0))
    with nothing_left():
        uvicorn.Server(config).run()


def aiohttp(port: int) -> None:
    """Run it on a loop of asyncio.run, which ends the threads that aiohttp looks up names in."""
    from aiohttp import web

    module: Any = import_module("aiohttp_worker")

    async def main() -> None:
        ended = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
        runner = web.AppRunner(module.application())
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        await ended.wait()
        await runner.cleanup()

    with nothing_left():
        asyncio.run(main())


def flask(port: int) -> None:
    """Run it under werkzeug's threaded server."""
    from werkzeug.serving import make_server

    with nothing_left():
        module: Any = import_module("flask_app")
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        server = make_server("127.0.0.1", port, module.app, threaded=True)
        stopping = threading.Thread(target=server.shutdown)
        signal.signal(signal.SIGTERM, lambda *_: stopping.start())
        server.serve_forever()
        stopping.join()
        server.server_close()
        module.c.close()


if __name__ == "__main__":
    {"fastapi": fastapi, "aiohttp": aiohttp, "flask": flask}[sys.argv[1]](int(sys.argv[2]))
    sys.stdout.write("clean\n")
