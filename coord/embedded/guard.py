"""The start of the server's process: bind it to its parent, lock its folder, exec the server.

Run as a script: ``guard.py PARENT FOLDER PATIENCE LIFELINE BINARY``. It runs without site-packages,
and delays every start, so it imports little. Its standard streams become the server's.

The lock is taken here and not in the parent, and stays open through exec: it lasts exactly as long
as the server itself, whether that outlives its parent or not.
"""

import fcntl
import os
import select
import signal
import sys
import time

CANNOT_RUN = 126


def die_with_parent(parent: int) -> None:
    """Ask the kernel to kill this process, through exec, when its parent ends; Linux only.

    The parent is, to the kernel, the thread that called fork: the reactor's.

    SIGKILL, because a stopped or busy server would not act on SIGTERM. Its append-only file holds
    what it would after any other crash.
    """
    import ctypes

    pr_set_pdeathsig = 1
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(pr_set_pdeathsig, ctypes.c_ulong(signal.SIGKILL), *[ctypes.c_ulong(0)] * 3):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    # If the parent died before the call above, no signal arrives.
    if os.getppid() != parent:
        sys.exit(1)


def be_watched(lifeline: int) -> None:
    """Fork a watcher that kills this process when the parent's end of ``lifeline`` closes.

    For systems without prctl. The watcher stays in this process group and kills the group, so it
    needs no pid that may be reused by then; it ends by itself when the server does.
    """
    server_gone, held_by_server = os.pipe()
    os.set_inheritable(held_by_server, True)
    if child := os.fork():
        os.waitpid(child, 0)
        os.close(lifeline)
        os.close(server_gone)
        return
    if os.fork():  # Make the watcher init's child: the server would not recognize it.
        os._exit(0)
    os.closerange(0, 3)
    os.close(held_by_server)
    ended, _, _ = select.select([lifeline, server_gone], [], [])
    if server_gone not in ended:
        os.killpg(0, signal.SIGKILL)
    os._exit(0)


def lock(folder: str, patience: float) -> None:
    """Lock ``folder`` for the rest of this process, or exit naming the server that has it.

    A server that was just killed needs a moment to end, and its successor may start sooner.
    """
    held = os.open(f"{folder}/coord.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() >= deadline:
                pid = os.pread(held, 20, 0).decode("ascii", "replace").strip()
                sys.exit(f"{folder} is in use by another server, pid {pid or 'not known yet'}")
        time.sleep(0.02)
    os.ftruncate(held, 0)
    os.pwrite(held, b"%d\n" % os.getpid(), 0)
    os.set_inheritable(held, True)


def main(parent: str, folder: str, patience: str, lifeline: str, binary: str) -> None:
    """Become the server, which reads its configuration from standard input."""
    # Its own group, so that Ctrl-C in a terminal ends only its parent.
    os.setsid()
    # Other users have no access to the socket and the data.
    os.umask(0o077)
    try:
        if lifeline == "-":
            die_with_parent(int(parent))
        else:
            be_watched(int(lifeline))
        lock(folder, float(patience))
    except OSError as error:
        sys.exit(f"{folder}: {error}")
    try:
        os.execv(binary, [binary.rpartition("/")[2], "-"])  # noqa: S606 - a shell is what we do not want
    except OSError as error:
        sys.stderr.write(f"{binary}: {error}\n")
        sys.exit(CANNOT_RUN)


if __name__ == "__main__":
    main(*sys.argv[1:])
