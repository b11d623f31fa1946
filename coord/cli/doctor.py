"""``coord doctor``: what is wrong with the server, and the setting to change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, NamedTuple

import click

import coord
from coord.cli import _printing as printing
from coord.cli._command import Command
from coord.cli._connection import Server, takes_server
from coord.cli._exits import DONE, WARNINGS
from coord.cli._job import Job
from coord.cli._reaching import reach
from coord.cli._running import run

if TYPE_CHECKING:
    from coord.doctor import Facts, Finding
    from coord.link.target import Target

__all__ = ["command"]


@click.command("doctor", cls=Command, example="coord doctor --url redis://db1")
@click.option("--json", "as_json", is_flag=True, help="Print everything as one line of JSON.")
@takes_server
def command(server: Server, as_json: bool) -> int:
    """Find what could lose events.

    Connects to the server, times a round trip and a wake-up, tries every command and channel that
    coord uses (on the map coord-doctor, which it removes), checks the server's configuration, and
    names the setting to change. On a cluster it does so at each server that has slots, and looks
    for slots, replicas and addresses that are missing.

    Exits with 0 if all is well, 5 if there are warnings, 69 if the server cannot be reached or is a
    replica, 77 if it denies access. Settings that the server does not report (CONFIG may be
    forbidden) are shown as unknown, without a warning.
    """

    async def body(job: Job) -> int:
        try:
            await reach(job)
        except coord.Error as error:
            if as_json:
                await job.output.line(_failed_json(job, error))
            raise
        return await _examine(job, as_json=as_json)

    return run(server, body)


async def _examine(job: Job, *, as_json: bool) -> int:
    from coord.doctor import Level

    other = job.server.connect(job.reactor)
    target = job.server.target
    try:
        report = await (_of_server(job, other) if target.cluster is None else _of_cluster(job, other, target))
    finally:
        await other.close()
    if as_json:
        await job.output.line(_json(job, report))
    else:
        for line in _lines(job, report):
            await job.output.line(line)
    return WARNINGS if any(finding.level is Level.WARNING for finding in report.findings) else DONE


class _Report(NamedTuple):
    """What was found. ``round_trip`` and ``wake_up`` are in seconds; those of the slowest server of a cluster."""

    facts: Facts
    role: str
    round_trip: float
    wake_up: float | None
    findings: Sequence[Finding]


async def _of_server(job: Job, other: coord.Coordinator) -> _Report:
    from coord.doctor import Exam, facts_of, judge

    exam = Exam(job.coordinator, other, database=job.server.database, clock=job.reactor)
    tried = await exam.run()
    facts = await facts_of(job.coordinator)
    return _Report(facts, facts.role or "unknown", exam.ping, exam.wake, judge(facts) + tried)


async def _of_cluster(job: Job, other: coord.Coordinator, target: Target) -> _Report:
    from coord.doctor import Askers, Facts, Finding, Level, cluster_facts_of, examine_shards, judge_cluster

    ask_at = Askers(target, job.reactor)

    async def ask(*words: str) -> object:
        return await ask_at.any_of(job.coordinator, *words)

    exams, tried = await examine_shards(job.coordinator, other, ask, clock=job.reactor)
    try:
        facts = await cluster_facts_of(ask, ask_at)
    except coord.AccessDenied as error:
        fix = "allow +cluster|nodes, +cluster|myid and +info to the user who examines"
        found, one, role = [Finding("cluster", Level.UNKNOWN, str(error), fix)], Facts({}, {}, 0), "cluster"
    else:
        found, one = judge_cluster(facts), next(iter(facts.facts.values()), Facts({}, {}, 0))
        replicas = len(facts.members) - len(facts.primaries)
        role = f"cluster of {len(facts.primaries)} primaries, {replicas} replicas"
    wakes = [exam.wake for exam in exams if exam.wake is not None]
    slowest = max((exam.ping for exam in exams), default=0.0), max(wakes, default=None)
    return _Report(one, role, *slowest, found + tried)


def _lines(job: Job, report: _Report) -> list[str]:
    findings = report.findings
    kind, version = report.facts.program
    wake = "no wake-up" if report.wake_up is None else f"{report.wake_up * 1000:.2f} ms from fire to wake-up"
    warnings = sum(finding.level == "warning" for finding in findings)
    unknown = sum(finding.level == "unknown" for finding in findings)
    lines = [
        f"{kind} {version} at {job.coordinator.server}, {report.role}",
        f"{report.round_trip * 1000:.2f} ms for a round trip, {wake} (medians)",
        "",
    ]
    for finding in findings:
        shown = finding.level.upper() if finding.level == "warning" else finding.level
        lines.append(f"{shown:8} {finding.check}: {finding.text}")
        if finding.fix is not None:
            lines.append(f"{'':8}   to change: {finding.fix}")
    end = "no warnings" if not warnings else "1 warning" if warnings == 1 else f"{warnings} warnings"
    return [*lines, "", end + (f", {unknown} could not be checked" if unknown else "")]


def _json(job: Job, report: _Report) -> str:
    kind, version = report.facts.program
    return printing.json_text(
        {
            "server": job.coordinator.server,
            "reached": True,
            "kind": kind.lower(),
            "version": version,
            "role": report.role,
            "round_trip": report.round_trip,
            "wake_up": report.wake_up,
            "warnings": sum(finding.level == "warning" for finding in report.findings),
            "findings": [asdict(finding) for finding in report.findings],
        }
    )


def _failed_json(job: Job, error: coord.Error) -> str:
    return printing.json_text({"server": job.coordinator.server, "reached": False, "error": str(error)})
