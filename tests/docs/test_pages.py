"""README.md and docs/ do what they say."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from docs.pages import BLOCKS, EXCEPTIONS, LANGUAGES, SECTIONS, Block, Section, Step, matches, of
from docs.servers import Shared, environment, free_port, shared
from docs.terminals import Terminal

FRAGMENTS = Path(__file__).with_name("fragments.py")


@pytest.fixture(scope="module")
def _shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    with shared(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def server(_shared: Shared) -> Shared:
    """Give a server that is empty."""
    _shared.empty()
    return _shared


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_every_block_is_of_a_kind_that_a_test_runs(block: Block) -> None:
    """No block is left out because nobody knows what to do with it."""
    assert block.language in LANGUAGES, block


# Shell.


@contextmanager
def place_for(section: Section, server: Shared, folder: Path) -> Iterator[tuple[int, dict[str, str], list[str]]]:
    """Give a section what it needs: a server's port, an environment, and the words that run a shell that may mount."""
    port = free_port() if section.starts_a_server() else server.port
    around = environment(folder, port) if section.starts_a_server() else server.environment(folder)
    with ExitStack() as stack:
        yield port, around, stack.enter_context(mounting(folder)) if "root" in section.exceptions else []


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


def substituted(block: Block, port: int, web: int) -> Block:
    """Put the section's own ports where the page has those that everybody's Redis and gateway are on."""
    text = block.text.replace("coord server", f"coord server --port {port}").replace("6379", str(port))
    text = text.replace("coord web --no-log", f"coord web --no-log --listen 127.0.0.1:{web}").replace("8181", str(web))
    return Block(block.page, block.section, block.line, block.language, block.marks, text)


@pytest.mark.parametrize("section", SECTIONS, ids=str)
def test_shell_sections_print_what_they_show(section: Section, server: Shared, tmp_path: Path) -> None:
    """The commands of a section, typed in its order into its terminals, print what the page shows."""
    for exception in section.exceptions - {"root"}:
        pytest.skip(f"needs {EXCEPTIONS[exception]}")
    if "root" in section.exceptions and (reason := why_no_mounts()):
        pytest.skip(reason)
    with place_for(section, server, tmp_path) as (port, around, prefix):
        web = free_port()
        terminals: dict[str, Terminal] = {}
        going_on: dict[str, Step] = {}
        try:
            for written in section.blocks:
                block = substituted(written, port, web)
                name = block.terminal
                if name not in terminals:
                    terminals[name] = Terminal(tmp_path, around, prefix)
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


def python(words: list[str | Path], folder: Path, server: Shared, said: str = "") -> str:
    """Run Python with warnings as errors; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-W", "error", *words],
        input=said,
        capture_output=True,
        text=True,
        cwd=folder,
        env=server.environment(folder),
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
def test_python_fragments_run(page: str, fragments: list[Block], server: Shared, tmp_path: Path) -> None:
    """The fragments of a page run one after the other, without a warning, and print what the page shows."""
    said = json.dumps([(page, block.line, block.text.replace("6379", str(server.port))) for block in fragments])
    outputs = python([FRAGMENTS], tmp_path, server, said).split("\x1e")
    for block, printed in zip(fragments, outputs[:-1], strict=True):
        compare(block, printed)


@pytest.mark.parametrize("block", of("python", "program"), ids=str)
def test_python_programs_run(block: Block, server: Shared, tmp_path: Path) -> None:
    """A program runs as a file of its own, without a warning, and prints what the page shows."""
    program = tmp_path / "program.py"
    program.write_text(block.text.replace("6379", str(server.port)), encoding="utf-8")
    printed = python([program], tmp_path, server)
    compare(block, printed)
