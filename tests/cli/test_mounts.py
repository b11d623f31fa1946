"""`coord mounts`, as a process; with real mounts where this machine lets us."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cli.processes import COORD, Ended, Process, RedisServer, Shell

TABLE = "36 35 98:0 / /mnt/abc rw,noatime shared:1 - ext4 /dev/sda1 rw\n25 35 0:23 / /proc rw - proc proc rw\n"


@pytest.fixture(scope="module")
def cannot_mount() -> str:
    """Return why no namespaces can be made here; nothing if they can."""
    if sys.platform != "linux":
        return "mountinfo is Linux's"
    if os.geteuid() != 0:
        return "only root may mount"
    if not all(map(shutil.which, ("unshare", "nsenter", "mount"))):
        return "util-linux is not installed"
    tried = subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "none", "/tmp"], capture_output=True, text=True)
    return "" if tried.returncode == 0 else f"cannot mount here: {tried.stderr.strip()}"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Return a mount table with one disk in it, as a regular file."""
    path = tmp_path / "mountinfo"
    path.write_text(TABLE)
    return path


def latched(shell: Shell) -> set[str]:
    """Return the keys of the map mount that are latched."""
    lines = shell.run("ls", "mount").out.splitlines()
    return {line.split("\t")[0] for line in lines if line.split("\t")[1] == "held"}


def test_it_announces_and_leaves_the_keys(shell: Shell, table: Path) -> None:
    """Both keys are fired, each is said on stderr, nothing on stdout; a stop keeps them."""
    agent = shell.start("mounts", "--mountinfo", str(table)).says("armed: announcing the mounts of here")
    agent.says(f"warning: {table} is a regular file")
    assert json.loads(shell.run("wait", "mount", "here:/mnt/abc").out) == {
        "node": "here",
        "source": "/dev/sda1",
        "target": "/mnt/abc",
        "fstype": "ext4",
        "options": "rw,noatime",
    }
    status, out, err = agent.end(signal.SIGTERM)
    assert (status, out) == (143, "")
    assert "coord: /mnt/abc announced\n" in err
    assert "coord: here:/mnt/abc announced\n" in err
    assert latched(shell) == {"/mnt/abc", "here:/mnt/abc"}


def test_the_process_of_the_table_ends(shell: Shell) -> None:
    """The mounts of a process that ends are withdrawn, and the agent says so and ends."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        agent = shell.start("mounts", "--mountinfo", f"/proc/{process.pid}/mountinfo", "--only", "/").says("armed")
        assert latched(shell) == {"/", "here:/"}
    ended = agent.end()
    assert (ended.status, ended.out) == (69, "")
    assert ended.err.endswith(
        f"coord: the process of /proc/{process.pid}/mountinfo has ended: its mounts are withdrawn\n"
    )
    assert latched(shell) == set()


def test_a_copy_of_a_table_is_read_again(shell: Shell, table: Path) -> None:
    """What changes in a regular file is announced too, ten seconds later at most."""
    agent = shell.start("mounts", "--mountinfo", str(table)).says("it is read every 10s")
    watching = shell.start("watch", "mount", "/mnt/abc").says("armed")
    table.write_text(TABLE.replace("rw,noatime", "ro,noatime"))
    agent.says("coord: here:/mnt/abc changed\n")
    assert json.loads(shell.run("wait", "mount", "here:/mnt/abc").out)["options"] == "ro,noatime"
    watching.prints('"ro,noatime"').end(signal.SIGTERM)
    assert " withdrawn" not in agent.end(signal.SIGTERM).err


def test_on_stop_reset_takes_the_keys_back(shell: Shell, table: Path) -> None:
    """With --on-stop reset, what was announced is pending again when it has ended."""
    agent = shell.start("mounts", "--mountinfo", str(table), "--on-stop", "reset", "--map", "mount").says("armed")
    assert latched(shell) == {"/mnt/abc", "here:/mnt/abc"}
    assert agent.end(signal.SIGINT).status == 130
    assert latched(shell) == set()


def test_a_server_that_hangs_does_not_hold_up_the_end(
    own_server: Callable[..., RedisServer], shell_at: Callable[[str], Shell], table: Path
) -> None:
    """What cannot be taken back in time stands, and that is said."""
    server = own_server()
    agent = shell_at(server.url).start("mounts", "--mountinfo", str(table), "--on-stop", "reset").says("armed")
    server.hang()
    ended = agent.end(signal.SIGTERM)
    assert ended.status == 143
    assert "the announcements remain until their lease ends: no answer within 5s" in ended.err


QUICK = ("--lease", "1s", "--grace", "500ms")


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_an_agent_that_is_not_started_again(shell: Shell, table: Path, signum: signal.Signals) -> None:
    """What it announced expires, whether it was stopped or killed."""
    words = ("mounts", "--mountinfo", str(table), *QUICK)
    agent = shell.start(*words).says("armed")
    waiting = shell.start("wait", "mount", "here:/mnt/abc", "--gone").says("armed")
    watching = shell.start("watch", "mount", "here:/mnt/abc", "--since", "start").prints("\theld\t")
    agent.end(signum)
    assert waiting.end().status == 0
    watching.prints("\texpired\t").end(signal.SIGTERM)
    agent = shell.start(*words).says("armed")
    assert latched(shell) == {"/mnt/abc", "here:/mnt/abc"}
    agent.end(signal.SIGTERM)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_an_agent_that_is_started_again(shell: Shell, table: Path, signum: signal.Signals) -> None:
    """Nothing ends, whether it was stopped or killed."""
    words = ("mounts", "--mountinfo", str(table))
    watching = shell.start("watch", "mount").says("armed")
    shell.start(*words).says("armed").end(signum)
    agent = shell.start(*words, "--on-stop", "reset").says("armed")
    shell.run("fire", "mount", "mark")
    watching.prints("mark")
    shown = [line.split("\t")[:2] for line in watching.out.decode().splitlines()]
    assert shown == [*([key, "held"] for key in ("/mnt/abc", "here:/mnt/abc") * 2), ["mark", "fired"]]
    watching.end(signal.SIGTERM)
    agent.end(signal.SIGTERM)


def test_other_lease_times_than_those_of_the_map(shell: Shell, table: Path) -> None:
    """It is said which there are, and that the agent tries again."""
    holding = shell.start("hold", "mount", "other", *QUICK).says("holding")
    agent = shell.start("mounts", "--mountinfo", str(table))
    agent.says("mounts are not announced: map mount: its holders have lease=1 and grace=0.5, this node has lease=20")
    agent.says("trying again")
    holding.end(signal.SIGTERM)
    agent.says("armed").end(signal.SIGTERM)


def test_only_what_is_asked_for(shell: Shell, table: Path) -> None:
    """--only overrides the list of what is left out, and may be repeated."""
    agent = shell.start("mounts", "--mountinfo", str(table), "--only", "/pr*", "--only", "/x", "--map", "mount")
    agent.says("armed")
    assert latched(shell) == {"/proc", "here:/proc"}
    agent.end(signal.SIGTERM)


def test_what_is_left_out(shell: Shell, table: Path) -> None:
    """--except, --type and --except-type narrow it down; types may be repeated or separated by commas."""
    lines = (f"{n} 35 0:{n} / /mnt/{name} rw - {name} x rw\n" for n, name in enumerate(("nfs4", "xfs", "tmpfs"), 50))
    table.write_text(TABLE + "".join(lines))
    words = (
        "--only",
        "/mnt/*",
        "--except",
        "*/abc",
        "--type",
        "nfs*,xfs, ext4",
        "--type",
        "proc",
        "--except-type",
        "xfs",
    )
    agent = shell.start("mounts", "--mountinfo", str(table), *words).says("armed")
    assert latched(shell) == {"/mnt/nfs4", "here:/mnt/nfs4"}
    agent.end(signal.SIGTERM)


@pytest.mark.parametrize(
    ("host", "node", "warning"),
    [
        (
            "web 1",
            None,
            "coord: warning: the host name 'web 1' cannot be a node name, so this host announces as web-1;",
        ),
        ("localhost", None, "coord: warning: other hosts may be called localhost too; choose a name with --node"),
        ("localhost", "n1", ""),
        ("web1", None, ""),
    ],
)
def test_odd_host_names(
    shell: Shell, table: Path, cannot_mount: str, host: str, node: str | None, warning: str
) -> None:
    """A host name that another host has, or gets, is said, unless a name was chosen."""
    if cannot_mount:
        pytest.skip(cannot_mount)
    enter = ("unshare", "--uts", "sh", "-ec", f'printf "{host}" >/proc/sys/kernel/hostname; exec "$@"', "sh")
    del shell.env["COORD_NODE"]
    more = {"COORD_NODE": node} if node else {}
    agent = shell.start("mounts", "--mountinfo", str(table), more=more, under=enter).says("armed")
    ended = agent.end(signal.SIGTERM)
    assert ("warning: the host name" in ended.err or "warning: other hosts" in ended.err) == bool(warning)
    assert warning in ended.err


def test_a_wait_for_a_mount_point_of_another_name(shell: Shell, tmp_path: Path) -> None:
    """A wait for a path that no mount table writes says under which key it is announced, also if it only looks."""
    (tmp_path / "link").symlink_to("disk")
    keys = (f"{tmp_path}/link", f"here:{tmp_path}/link/", "/mnt/a/", "n2:/mnt//a", "/mnt/a", "ready/", "n2:/mnt/a")
    waiting = shell.start("wait", "mount", *keys, "--any").says("armed")
    hints = [(f"{tmp_path}/link", f"{tmp_path}/disk"), (f"here:{tmp_path}/link/", f"here:{tmp_path}/disk")]
    hints += [("/mnt/a/", "/mnt/a"), ("n2:/mnt//a", "n2:/mnt/a")]
    said = "".join(f"coord: hint: the mount agent announces {key} as {announced}\n" for key, announced in hints)
    waiting.says(said)
    shell.run("fire", "mount", "ready/")
    ended = waiting.end()
    assert (ended.status, ended.err.count("hint")) == (0, 4)
    looked = shell.run("wait", "mount", "--timeout", "0", "/mnt/a/")
    assert (looked.status, looked.err) == (
        124,
        "coord: hint: the mount agent announces /mnt/a/ as /mnt/a\ncoord: pending: /mnt/a/\n",
    )


def test_patterns_through_a_link(shell: Shell, tmp_path: Path) -> None:
    """A pattern whose folder is a link is warned of: mount points are announced without links."""
    (tmp_path / "link").symlink_to("disk")
    patterns = [f"{tmp_path}/link/*", f"{tmp_path}/link", f"{tmp_path}/li*", f"{tmp_path}/disk/*"]
    words = [word for pattern in patterns for word in ("--only", pattern, "--except", pattern)]
    ended = shell.start("mounts", *words).says("armed").end(signal.SIGTERM)
    for pattern in patterns[:2]:
        why = f"{tmp_path}/link leads through a link to {tmp_path}/disk"
        for option in ("--only", "--except"):
            assert f"coord: warning: {option} '{pattern}' matches nothing: {why}\n" in ended.err
    assert ended.err.count("warning") == 4


@pytest.mark.parametrize("empty", [False, True])
def test_it_waits_for_the_server(
    own_server: Callable[..., RedisServer], shell_at: Callable[[str], Shell], table: Path, empty: bool
) -> None:
    """A server that is not up yet is waited for, and that is said, also if nothing is mounted."""
    server = own_server()
    server.stop()
    if empty:
        table.write_text("")
    agent = shell_at(server.url).start("mounts", "--mountinfo", str(table)).says("waiting for the server")
    server.start()
    agent.says("armed").end(signal.SIGTERM)


@pytest.mark.parametrize(
    ("words", "rule"),
    [
        (("--mountinfo", "/nowhere"), "cannot read the mount table /nowhere: No such file or directory"),
        (("--mountinfo", "/tmp"), "cannot read the mount table /tmp: Is a directory"),
        (("--mountinfo", "/etc/passwd"), "/etc/passwd is not a mount table"),
        (("--map", "a b"), "map 'a b': a name is"),
        (("--only", "mnt/*"), "pattern 'mnt/*' matches no mount point: it must begin with '/' or '*'"),
        (("--except", "/mnt/"), "pattern '/mnt/' matches no mount point: these have no"),
        (("--type", "ext4,"), "a type of file system cannot be empty"),
        (("--on-stop", "explode"), "'explode' is not one of 'keep', 'reset'"),
    ],
)
def test_bad_words_are_2(shell: Shell, words: tuple[str, ...], rule: str) -> None:
    """What cannot be is refused in a sentence that names it."""
    ended = shell.run("mounts", *words)
    assert (ended.status, ended.out) == (2, "")
    assert rule in ended.err


# Real mounts, in a mount namespace of their own.


class Host:
    """A mount namespace, and commands in it."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        script = "echo ready; exec cat"
        self._holder = Process(("unshare", "-m", "sh", "-c", script), os.environ, stdin=subprocess.PIPE).prints("ready")
        self._enter = ("nsenter", "-t", str(self._holder.popen.pid), "-m", "--")

    def coord(self, *words: str) -> Process:
        """Start ``coord WORDS`` there."""
        process = Process((*self._enter, *COORD, *words), self._shell.env, stdin=subprocess.DEVNULL)
        self._shell.started.append(process)
        return process

    def run(self, *words: str) -> None:
        """Run a command that must succeed."""
        subprocess.run([*self._enter, *words], check=True)

    def close(self) -> None:
        """Let go of it, and of what is mounted in it."""
        self._holder.kill()


@pytest.fixture
def host(shell: Shell, cannot_mount: str) -> Iterator[Host]:
    """Return a place where real file systems can be mounted."""
    if cannot_mount:
        pytest.skip(cannot_mount)
    host = Host(shell)
    yield host
    host.close()


def test_the_main_job(shell: Shell, host: Host, tmp_path: Path) -> None:
    """A waiter prints who mounted what when it is mounted, a late one at once; unmounting re-arms."""
    disk = tmp_path / "abc"
    disk.mkdir()
    agent = host.coord("mounts", "--only", f"{tmp_path}/*").says("armed")
    value = {"node": "here", "source": "none", "target": str(disk), "fstype": "tmpfs"}
    for _ in range(2):
        waiting = [shell.start("wait", "mount", key).says("armed") for key in (str(disk), f"here:{disk}")]
        host.run("mount", "-t", "tmpfs", "none", str(disk))
        for ended in [wait.end() for wait in waiting]:
            assert ended.status == 0
            assert value.items() <= json.loads(ended.out).items()
        late = shell.run("wait", "mount", str(disk))
        assert late == Ended(0, ended.out, "")
        watching = shell.start("watch", "mount", str(disk)).says("armed")
        host.run("umount", str(disk))
        watching.prints("\twithdrawn\t").end(signal.SIGTERM)
        assert shell.run("wait", "mount", str(disk), "--timeout", "0").status == 124
    assert agent.end(signal.SIGTERM).status == 143
