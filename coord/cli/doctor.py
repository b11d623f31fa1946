"""``coord doctor``: what is wrong with the server, and the setting to change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

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
    from coord.doctor import Exam, Facts, Finding

__all__ = ["command"]


@click.command("doctor", cls=Command, example="coord doctor --url redis://db1")
@click.option("--json", "as_json", is_flag=True, help="Print everything as one line of JSON.")
@takes_server
def command(server: Server, as_json: bool) -> int:
    """Find what could lose events.

    Connects to the server, times a round trip and a wake-up, tries every command and channel that
    coord uses (on the map coord-doctor, which it removes), checks the server's configuration, and
    names the setting to change.

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
    from coord.doctor import Exam, Level, facts_of, judge

    other = job.server.connect(job.reactor)
    try:
        exam = Exam(job.coordinator, other, database=job.server.database, clock=job.reactor)
        tried = await exam.run()
        facts = await facts_of(job.coordinator)
    finally:
        await other.close()
    findings = judge(facts) + tried
    if as_json:
        await job.output.line(_json(job, facts, exam, findings))
    else:
        for line in _lines(job, facts, exam, findings):
            await job.output.line(line)
    return WARNINGS if any(finding.level is Level.WARNING for finding in findings) else DONE


def _kind(facts: Facts) -> tuple[str, str]:
    """Return the server's kind and version: other servers also report the Redis version that they emulate."""
    for name in ("valkey", "dragonfly"):
        if version := facts.info.get(f"{name}_version"):
            return name.capitalize(), version
    return "Redis", facts.info.get("redis_version", "of unknown version")


def _role(facts: Facts) -> str:
    return {"master": "primary", "slave": "replica"}.get(facts.info.get("role", ""), "unknown")


def _lines(job: Job, facts: Facts, exam: Exam, findings: Sequence[Finding]) -> list[str]:
    kind, version = _kind(facts)
    wake = "no wake-up" if exam.wake is None else f"{exam.wake * 1000:.2f} ms from fire to wake-up"
    warnings = sum(finding.level == "warning" for finding in findings)
    unknown = sum(finding.level == "unknown" for finding in findings)
    lines = [
        f"{kind} {version} at {job.coordinator.server}, {_role(facts)}",
        f"{exam.ping * 1000:.2f} ms for a round trip, {wake} (medians)",
        "",
    ]
    for finding in findings:
        shown = finding.level.upper() if finding.level == "warning" else finding.level
        lines.append(f"{shown:8} {finding.check}: {finding.text}")
        if finding.fix is not None:
            lines.append(f"{'':8}   to change: {finding.fix}")
    end = "no warnings" if not warnings else "1 warning" if warnings == 1 else f"{warnings} warnings"
    return [*lines, "", end + (f", {unknown} could not be checked" if unknown else "")]


def _json(job: Job, facts: Facts, exam: Exam, findings: Sequence[Finding]) -> str:
    kind, version = _kind(facts)
    return printing.json_text(
        {
            "server": job.coordinator.server,
            "reached": True,
            "kind": kind.lower(),
            "version": version,
            "role": _role(facts),
            "round_trip": exam.ping,
            "wake_up": exam.wake,
            "warnings": sum(finding.level == "warning" for finding in findings),
            "findings": [asdict(finding) for finding in findings],
        }
    )


def _failed_json(job: Job, error: coord.Error) -> str:
    return printing.json_text({"server": job.coordinator.server, "reached": False, "error": str(error)})
