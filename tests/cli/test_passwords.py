"""A password in a file, which may change while a command runs."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.processes import RedisServer, Shell


@pytest.fixture
def server(own_server: Callable[..., RedisServer]) -> RedisServer:
    """Give a server with a user ``node``, whose password is ``first``."""
    return own_server("--user", "node", "on", ">first", "allkeys", "allchannels", "+@all")


@pytest.fixture
def shell(server: RedisServer, shell_at: Callable[[str], Shell]) -> Shell:
    """Give a shell that connects as that user, and has no password yet."""
    return shell_at(server.url.replace("unix://", "unix://node@"))


def test_a_rotated_password_is_read_at_the_next_reconnect(server: RedisServer, shell: Shell, tmp_path: Path) -> None:
    """A file that is missing then is named, and used once it is there again."""
    file = tmp_path / "password"
    file.write_text("first\n")
    waiting = shell.start("wait", "m", "k", more={"COORD_PASSWORD_FILE": str(file)}).says("armed")
    file.unlink()
    server.do("ACL", "SETUSER", "node", "resetpass", ">second")
    server.do("CLIENT", "KILL", "USER", "node")
    waiting.says(f"COORD_PASSWORD_FILE: cannot read {file}: No such file")
    file.write_text("second\n")
    waiting.says("connected")
    assert shell.run("fire", "m", "k", "1", more={"COORD_PASSWORD": "second"}).status == 0
    assert waiting.end()[:2] == (0, "1\n")


@pytest.mark.parametrize("content", [None, "", "\n"])
@pytest.mark.parametrize("words", [("fire", "m", "k"), ("wait", "m", "k")])
def test_no_password_at_the_start_is_2(
    shell: Shell, tmp_path: Path, words: tuple[str, ...], content: str | None
) -> None:
    """A file that is missing or empty ends the command at once, with one sentence."""
    file = tmp_path / "password"
    if content is not None:
        file.write_text(content)
    ended = shell.run(*words, more={"COORD_PASSWORD_FILE": str(file)})
    assert ended[:2] == (2, "")
    assert ended.err.count("\n") == 1
    assert f"COORD_PASSWORD_FILE: {'cannot read ' if content is None else ''}{file}" in ended.err


def test_a_pipe_is_read_once(shell: Shell) -> None:
    """What a shell's <(...) gives cannot be read again: all connections log in with what was in it."""
    reads, writes = os.pipe()
    os.write(writes, b"first\n")
    os.close(writes)
    with os.fdopen(reads):
        more = {"COORD_PASSWORD_FILE": f"/dev/fd/{reads}"}
        assert shell.start("fire", "m", "k", more=more, pass_fds=(reads,)).end().status == 0
