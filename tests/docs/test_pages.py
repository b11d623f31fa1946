"""README.md and docs/ do what they say."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from configparser import ConfigParser
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from docs.pages import LANGUAGES, PAGES, ROOT, Block, Section, Step, blocks, matches, sections
from docs.servers import BIN, BINARIES, environment, free_port, running, server
from docs.terminals import Terminal

BLOCKS = [block for page in PAGES for block in blocks(page)]
SECTIONS = [section for page in PAGES for section in sections(page)]
FRAGMENTS = Path(__file__).with_name("fragments.py")


def of(language: str, *marks: str) -> list[Block]:
    """Return the blocks in one language that have all these marks."""
    return [block for block in BLOCKS if block.language == language and block.marks >= set(marks)]


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_every_block_is_of_a_kind_that_a_test_runs(block: Block) -> None:
    """No block is left out because nobody knows what to do with it."""
    assert block.language in LANGUAGES, block


# Shell.


@contextmanager
def place_for(section: Section, folder: Path) -> Iterator[tuple[int, list[str]]]:
    """Give a section what it needs: a server's port, and the words that run a shell where it may mount."""
    with ExitStack() as stack:
        port = free_port() if section.starts_a_server() else stack.enter_context(server(folder))
        yield port, stack.enter_context(mounting(folder)) if "root" in section.exceptions else []


@contextmanager
def mounting(folder: Path) -> Iterator[list[str]]:
    """Make a mount namespace with an empty /mnt, and end it with all that is mounted there."""
    script = "mount -t tmpfs none /mnt && echo ready && exec cat"
    with subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"ready\n"
        yield ["nsenter", f"--mount=/proc/{holder.pid}/ns/mnt", f"--wd={folder}"]


def why_no_mounts() -> str:
    """Return why no file system can be mounted here, or nothing."""
    if os.geteuid() != 0 or not shutil.which("unshare"):
        return "only root may mount"
    tried = subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, check=False)
    return "" if tried.returncode == 0 else "file systems cannot be mounted here"


def substituted(block: Block, port: int) -> Block:
    """Put the section's own port where the page has the one that everybody's Redis is on."""
    text = block.text.replace("coord server", f"coord server --port {port}").replace("6379", str(port))
    return Block(block.page, block.section, block.line, block.language, block.marks, text)


@pytest.mark.parametrize("section", SECTIONS, ids=str)
def test_shell_sections_print_what_they_show(section: Section, tmp_path: Path) -> None:
    """The commands of a section, typed in its order into its terminals, print what the page shows."""
    if section.exceptions & {"docker", "setup"}:
        pytest.skip(f"needs {'an engine' if 'docker' in section.exceptions else 'the network'}")
    if "root" in section.exceptions and (reason := why_no_mounts()):
        pytest.skip(reason)
    with place_for(section, tmp_path) as (port, prefix):
        terminals: dict[str, Terminal] = {}
        going_on: dict[str, Step] = {}
        try:
            for written in section.blocks:
                block = substituted(written, port)
                name = block.terminal
                if name not in terminals:
                    terminals[name] = Terminal(tmp_path, environment(tmp_path, port), prefix)
                if name in going_on:
                    terminals[name].wait_for_end(going_on.pop(name))
                if type_in(block, terminals[name]):
                    going_on[name] = block.steps[-1]
            for name, step in going_on.items():
                terminals[name].wait_for_output(step)
        finally:
            for terminal in terminals.values():
                terminal.close()


def type_in(block: Block, terminal: Terminal) -> bool:
    """Type the commands of a block; answer whether the last one is left to go on."""
    steps = block.steps
    for step, following in zip(steps, [*steps[1:], None], strict=True):
        terminal.type(step)
        if block.terminal and following is None:
            terminal.wait_for_word(step)
            return True
        status = terminal.wait_for_end(step)
        expected = following is not None and following.command == "echo $?"
        assert status == 0 or expected, f"{block}: {step.command!r} ended with {status}"
    return False


@pytest.mark.parametrize("block", of("console") + of("sh"), ids=str)
def test_shell_commands_are_well_formed(block: Block) -> None:
    """The shell can read them, also those that this machine cannot run."""
    script = "\n".join(step.command for step in block.steps)
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)


# Python.


def page_fragments() -> list[tuple[str, list[Block]]]:
    """Return the Python fragments by page."""
    found: dict[str, list[Block]] = {}
    for block in of("python"):
        if "program" not in block.marks:
            found.setdefault(block.page, []).append(block)
    return list(found.items())


def output_of(block: Block) -> tuple[str, ...] | None:
    """Return what the page shows as the output of a Python block; None where it shows none."""
    following = BLOCKS[BLOCKS.index(block) + 1 :][:1]
    if following and following[0].page == block.page and "output" in following[0].marks:
        return tuple(following[0].text.splitlines())
    return None


def python(words: list[str | Path], folder: Path, port: int, said: str = "") -> str:
    """Run Python with warnings as errors; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-W", "error", *words],
        input=said,
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment(folder, port),
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    return done.stdout


def compare(block: Block, printed: str) -> None:
    """Hold the page to what was printed."""
    expected = output_of(block)
    if expected is not None:
        assert matches(expected, printed.splitlines()), f"{block} shows\n{chr(10).join(expected)}\nprinted\n{printed}"


@pytest.mark.parametrize(("page", "fragments"), page_fragments(), ids=lambda value: value if type(value) is str else "")
def test_python_fragments_run(page: str, fragments: list[Block], tmp_path: Path) -> None:
    """The fragments of a page run one after the other, without a warning, and print what the page shows."""
    with server(tmp_path) as port:
        said = json.dumps([(page, block.line, block.text.replace("6379", str(port))) for block in fragments])
        outputs = python([FRAGMENTS], tmp_path, port, said).split("\x1e")
    for block, printed in zip(fragments, outputs[:-1], strict=True):
        compare(block, printed)


@pytest.mark.parametrize("block", of("python", "program"), ids=str)
def test_python_programs_run(block: Block, tmp_path: Path) -> None:
    """A program runs as a file of its own, without a warning, and prints what the page shows."""
    program = tmp_path / "program.py"
    with server(tmp_path) as port:
        program.write_text(block.text.replace("6379", str(port)), encoding="utf-8")
        printed = python([program], tmp_path, port)
    compare(block, printed)


# Configuration.


@pytest.mark.parametrize("kind", BINARIES)
@pytest.mark.parametrize("block", of("conf"), ids=str)
def test_servers_take_the_configurations(block: Block, kind: str, tmp_path: Path) -> None:
    """Redis and Valkey start with them, and coord does all its work there, as the user that is in them."""
    port = free_port()
    path = tmp_path / "redis.conf"
    path.write_text(f"{block.text}\nport {port}\nbind 127.0.0.1\ndir {tmp_path}\n", encoding="utf-8")
    user = re.search(r"^user (\w+) .*>(\S+)", block.text, re.MULTILINE)
    password = re.search(r"^requirepass (\S+)", block.text, re.MULTILINE)
    login = f"{user[1]}:{user[2]}@" if user else f":{password[1]}@" if password else ""
    namespace = re.search(r"~coord:{([^/]+)/", block.text)
    chosen = {"COORD_NAMESPACE": namespace[1]} if namespace else {}
    with running([BINARIES[kind], path], "ready to accept connections", tmp_path):
        around = environment(tmp_path, port, COORD_URL=f"redis://{login}127.0.0.1:{port}", **chosen)
        done = subprocess.run(
            ["bash", "-euc", EVERYTHING], capture_output=True, text=True, env=around, cwd=tmp_path, check=False
        )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    assert done.stdout.splitlines() == ["first", "already", "1", "first", "first", "first", "3"]


EVERYTHING = """
exec 3>&2 2>quiet
trap 'status=$?; [ $status = 0 ] || cat quiet >&3' EXIT
coord fire m a 1
coord fire m a 2
coord wait m a
coord reset m a
coord pulse m a
coord fail m b why
coord ls m >/dev/null
coord watch m --since start --no-follow | wc -l | tr -d ' ' >lines
coord doctor >doctor
test "$(cat lines)" = 4 && echo 3
"""


@pytest.mark.parametrize("block", of("ini"), ids=str)
def test_units_of_systemd_are_well_formed(block: Block) -> None:
    """They can be read, and the command in them is one that coord takes."""
    unit = ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read_string(block.text)
    command = unit["Service"]["ExecStart"].split()
    assert command[0].endswith("/coord")
    # With --help behind its own options it prints, but only if click knows all of them.
    words = command[1 : command.index("--")] if "--" in command else command[1:]
    subprocess.run([BIN / "coord", *words, "--help"], check=True, capture_output=True)


# Links.


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """A link within the project names a file that is there, and a heading in it."""
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path) if path else page
        assert linked.exists(), f"{page.name}: {target}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", linked.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}, target


def test_the_continuous_integration_runs_the_commands_of_the_readme() -> None:
    """What the README says to type for a try and for the tests is what runs on the public forge, word for word."""
    setup = [step.command for block in of("sh", "setup") for step in block.steps if block.page == "README.md"]
    try_it, test_it = (command for command in setup if "&&" in command)
    assert try_it in (ROOT / ".github/workflows/test.yml").read_text()
    assert test_it in (ROOT / ".ci/run").read_text()
    assert "bash .ci/run" in (ROOT / ".github/workflows/test.yml").read_text()
