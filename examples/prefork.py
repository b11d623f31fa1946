"""A server that forks its workers; the coordinator that it made before is a node of its own in each.

Run it with ``python prefork.py``; it answers a line, the name of a disk, with where the disk is mounted.
"""

import os
import signal
import socketserver
import sys

import coord.blocking

WORKERS = 2

c = coord.blocking.connect(os.environ.get("COORD_URL", "redis://127.0.0.1:6379"))


class Handler(socketserver.StreamRequestHandler):
    """One connection."""

    def handle(self) -> None:
        """Answer it."""
        if disk := self.rfile.readline().decode().strip():
            where = c.events("mount").wait(disk, timeout=25)
            self.wfile.write(f"{os.getpid()} {where}\n".encode())


def serve(server: socketserver.TCPServer) -> None:
    """Serve until a signal; the exit closes the node."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    server.serve_forever()


def main() -> None:
    """Listen, fork the workers, and end them when this process is ended."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", int(os.environ.get("PORT", "8080"))), Handler) as server:
        server.daemon_threads = True
        workers = []
        for _ in range(WORKERS):
            worker = os.fork()
            if not worker:
                serve(server)
            workers.append(worker)

        def end(*_: object) -> None:
            for worker in workers:
                os.kill(worker, signal.SIGTERM)

        signal.signal(signal.SIGTERM, end)
        # The parent uses its own node on.
        c.events("mount").fire("root", "/")
        for worker in workers:
            os.waitpid(worker, 0)
    c.close()


if __name__ == "__main__":
    main()
