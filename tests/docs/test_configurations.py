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
from security.rules import doctor_rule, rule

ELSEWHERE = """
coord --namespace other fire m a && exit 1
test $? = 77
coord --namespace other wait --timeout 5 m a && exit 1
test $? = 77
"""


class Configured:
    """A configuration of the pages: its text, and as whom users come."""

    def __init__(self, block: Block) -> None:
        self.text = block.text
        self.users = [":".join(each) for each in re.findall(r"^user ([\w-]+) on >(\S+)", block.text, re.MULTILINE)]
        password = re.search(r"^requirepass (\S+)", block.text, re.MULTILINE)
        self.logins = [f"{each}@" for each in self.users or ([f":{password[1]}"] if password else [])] or [""]
        namespace = re.search(r"~coord:{([^/]+)/", block.text)
        self.namespace = namespace[1] if namespace else "default"

    @contextmanager
    def served(self, kind: str, folder: Path) -> Iterator[list[dict[str, str]]]:
        """Start a server with it; the value is the environment of each user."""
        port = free_port()
        path = folder / "redis.conf"
        path.write_text(f"{self.text}\nport {port}\nbind 127.0.0.1\ndir {folder}\n", encoding="utf-8")
        urls = [f"redis://{login}127.0.0.1:{port}" for login in self.logins]
        with running([BINARIES[kind], path], "eady to accept connections", folder):
            yield [environment(folder, port, COORD_URL=url, COORD_NAMESPACE=self.namespace) for url in urls]


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
    with configured.served(kind, tmp_path) as users:
        for around in users:
            done = shell("coord doctor", tmp_path, around)
            assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
            assert "no warnings" in done.stdout
            if configured.users:
                elsewhere = shell(ELSEWHERE, tmp_path, around)
                assert elsewhere.returncode == 0, elsewhere.stderr


def test_the_access_rules_are_those_that_all_promises_are_tested_under() -> None:
    """The page allows a node and the doctor what the tests of access show to be needed, and no word more."""
    (page,) = [block for block in of("conf") if "\nuser shop on" in block.text]
    shown = re.findall(r"^user (shop\S*) (.*)$", page.text, re.MULTILINE)
    expected = [("shop", rule("shop", "change-me")), ("shop-doctor", doctor_rule("shop", "change-me-too"))]
    # The first word makes a user anew, which one in a file is anyway.
    assert shown == [(name, " ".join(words[1:])) for name, words in expected]


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


@pytest.mark.parametrize("block", of("toml"), ids=str)
def test_settings_of_the_gateway_are_valid(block: Block) -> None:
    """`coord web` would take them."""
    from coord.web.config import parse

    parse(block.text, str(block))
