"""What the pages tell operators to write into files."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from configparser import ConfigParser
from contextlib import contextmanager
from pathlib import Path

import pytest

from docs.pages import Block, of
from docs.servers import BIN, BINARIES, environment, free_port, running
from security.rules import NEEDED, RARELY_NEEDED, SELDOM_MISSED

ELSEWHERE = """
coord --namespace other fire m a && exit 1
test $? = 77
coord --namespace other wait --timeout 5 m a && exit 1
test $? = 77
"""

FOR_THE_DOCTOR = {"acl|whoami", "config|get", "del", "ping", "script|exists"}


class Configured:
    """A configuration of the pages: its text, and as whom a user comes."""

    def __init__(self, block: Block) -> None:
        self.text = block.text
        self.user = re.search(r"^user (\w+) on >(\S+)", block.text, re.MULTILINE)
        password = re.search(r"^requirepass (\S+)", block.text, re.MULTILINE)
        self.login = f"{self.user[1]}:{self.user[2]}@" if self.user else f":{password[1]}@" if password else ""
        namespace = re.search(r"~coord:{([^/]+)/", block.text)
        self.namespace = namespace[1] if namespace else "default"

    @contextmanager
    def served(self, kind: str, folder: Path) -> Iterator[dict[str, str]]:
        """Start a server with it; the value is the environment of its user."""
        port = free_port()
        path = folder / "redis.conf"
        path.write_text(f"{self.text}\nport {port}\nbind 127.0.0.1\ndir {folder}\n", encoding="utf-8")
        url = f"redis://{self.login}127.0.0.1:{port}"
        with running([BINARIES[kind], path], "eady to accept connections", folder):
            yield environment(folder, port, COORD_URL=url, COORD_NAMESPACE=self.namespace)


def shell(script: str, folder: Path, around: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a script to its end."""
    return subprocess.run(
        ["bash", "-uc", script], capture_output=True, text=True, env=around, cwd=folder, timeout=60, check=False
    )


@pytest.mark.parametrize("kind", BINARIES)
@pytest.mark.parametrize("block", of("conf"), ids=str)
def test_servers_take_the_configurations(block: Block, kind: str, tmp_path: Path) -> None:
    """Redis and Valkey start with them, and the doctor, who tries everything there, has nothing to warn of."""
    configured = Configured(block)
    with configured.served(kind, tmp_path) as around:
        done = shell("coord doctor", tmp_path, around)
        assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
        assert "no warnings" in done.stdout
        if configured.user:
            elsewhere = shell(ELSEWHERE, tmp_path, around)
            assert elsewhere.returncode == 0, elsewhere.stderr


def test_the_access_rule_is_the_one_that_all_promises_are_tested_under() -> None:
    """The page allows what the tests of access show to be needed, and what the doctor asks for."""
    (rule,) = [block for block in of("conf") if "\nuser shop on" in block.text]
    allowed = set(re.findall(r"\+(\S+)", rule.text))
    assert allowed == {*NEEDED, *RARELY_NEEDED, *SELDOM_MISSED} | FOR_THE_DOCTOR


@pytest.mark.parametrize("block", of("ini"), ids=str)
def test_units_of_systemd_are_well_formed(block: Block) -> None:
    """They can be read, and the command in them is one that coord takes."""
    unit = ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read_string(block.text)
    command = unit["Service"]["ExecStart"].split()
    assert command[0].endswith("/coord")
    words = command[1 : command.index("--")] if "--" in command else command[1:]
    # With --help behind its own options it prints, but only if it knows all of them.
    subprocess.run([BIN / "coord", *words, "--help"], check=True, capture_output=True)
