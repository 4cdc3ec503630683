"""`tidemill doctor`."""

import json
import sys
from dataclasses import asdict

import typer
from rich.console import Console
from rich.table import Table

from tidemill.runtime.catalog import resolve_model
from tidemill.runtime.cli.errors import EXIT_FAILED
from tidemill.runtime.cli.progress import BytesProgress
from tidemill.runtime.doctor import Finding, check_machine, check_model
from tidemill.storage.errors import StorageError
from tidemill.storage.manifest_file import load_manifest


def doctor_command(model: str | None, deep: bool, as_json: bool) -> None:
    if deep and model is None:
        raise typer.BadParameter("--deep verifies a model: name it with -m")
    findings = check_machine()
    if model is not None:
        findings += _check_model(model, deep)
    failed = any(finding.state == "failed" for finding in findings)
    if as_json:
        sys.stdout.write(json.dumps({"ok": not failed, "findings": [asdict(finding) for finding in findings]}) + "\n")
    else:
        _show(findings)
    if failed:
        raise typer.Exit(EXIT_FAILED)


def _check_model(model: str, deep: bool) -> list[Finding]:
    done = 0
    total = _shard_bytes(model) if deep else 0
    with BytesProgress("verifying") as progress:

        def on_bytes(count: int) -> None:
            nonlocal done
            done += count
            progress.update(done, total)

        return check_model(model, deep=deep, on_bytes=on_bytes)


def _shard_bytes(model: str) -> int:
    try:
        return sum(shard.bytes for shard in load_manifest(resolve_model(model)).shards)
    except (StorageError, ValueError):
        return 0  # check_model reports it


def _show(findings: list[Finding]) -> None:
    table = Table(show_header=False, box=None, pad_edge=False)
    for finding in findings:
        style = {"ok": "green", "warning": "yellow", "failed": "red"}[finding.state]
        table.add_row(f"[{style}]{finding.state}[/{style}]", finding.name, finding.text)
    Console(highlight=False).print(table)
