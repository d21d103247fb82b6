"""`plantwatch check`: is everything there that a start needs? Says what is wrong and how to mend it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from pipelines.checking import check_all
from pipelines.findings import Finding, Status
from pipelines.settings import Settings


def check(
    data: Annotated[Path | None, typer.Option(help="Folder or file of readings that shall be read.")] = None,
    plant: Annotated[Path | None, typer.Option(help="Plant file, instead of the data folder's.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder with what plantwatch stores.")] = None,
    timezone: Annotated[str | None, typer.Option(help="IANA zone of times in files that name none.")] = None,
    config: Annotated[Path | None, typer.Option(help="Settings file, plantwatch.toml.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Findings as one JSON object.")] = False,
) -> None:
    """Look at settings, plant file, folders, databases, models, ports. Exits non-zero if a start would fail."""
    findings: list[Finding] = []
    for finding in check_all(lambda: Settings(config=config, plant=plant, data_dir=data_dir, timezone=timezone), data):
        findings.append(finding)
        if not as_json:
            typer.echo(_line(finding))
    failures = [finding for finding in findings if finding.status is Status.FAILURE]
    if as_json:
        typer.echo(json.dumps({"ok": not failures, "findings": [asdict(finding) for finding in findings]}))
    elif failures:
        typer.echo(f"{len(failures)} of {len(findings)} checks failed.", err=True)
    if failures:
        raise typer.Exit(failures[0].exit_code or 1)


def _line(finding: Finding) -> str:
    """One finding; further lines of its text stand under the first.

    >>> _line(Finding("python", Status.OK, "Python 3.11.9"))
    'ok       python          Python 3.11.9'
    """
    text = finding.found.replace("\n", "\n" + " " * 25)
    return f"{finding.status.value:<8} {finding.name:<15} {text}"
