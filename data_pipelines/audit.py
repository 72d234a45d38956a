"""What is wrong with a deraining data set: ``python -m data_pipelines.audit NAME_OR_PATH``."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.progress import Progress

from autoderain_jax.errors import InputError
from data_pipelines import find_data
from data_pipelines.findings import Finding, PartReport, check
from data_pipelines.known import is_known, known
from data_pipelines.pair_files import Part
from experiments import command

SHOWN = 10
"""Findings of one kind that are printed; all are in the JSON."""
QUIET_SECONDS = 5.0


@dataclasses.dataclass(frozen=True)
class AuditConfig:
    """Check a deraining data set: counts, pairs, damaged files, duplicates, leaks and scores.

    Exits with 0 if nothing was found, 1 if something was, 2 if the data could not be looked at.
    """

    data: Annotated[str, tyro.conf.Positional]
    """A data set by name, such as rain100h, with --data-root; or a folder, or a list of pairs."""
    data_root: Path | None = None
    """Where a data set given by name was unpacked."""
    against: str | None = None
    """Another data set, whose backgrounds must not be among these: a folder, or a name with --against-root."""
    against_root: Path | None = None
    """Where the data set of --against was unpacked, if it was given by name."""
    json: bool = False
    """Print one JSON object with every finding instead of a report."""


def audit(
    config: AuditConfig, step: Callable[[str, int], None] = lambda task, total: None
) -> tuple[dict[str, PartReport], list[Finding]]:
    """Checks a data set, as ``findings.check`` does; arguments and results are described there.

    Raises:
      InputError: there is no such data set.
    """
    parts = _find(config.data, config.data_root, "--data-root")
    others = _find(config.against, config.against_root, "--against-root") if config.against else {}
    data_set = known(config.data) if is_known(config.data) and config.data_root else None
    return check(parts, {f"{config.against} {name}": part for name, part in others.items()}, data_set, step)


def _find(data: str, root: Path | None, root_option: str) -> Mapping[str, Part]:
    parts = find_data(data, root, root_option)
    if not all(isinstance(part, Part) for part in parts.values()):
        raise InputError(f"{data} is rendered, not read: there is nothing to audit")
    return parts


class _Steps:
    """Shows how far an audit is: a bar on a terminal, a line every few seconds elsewhere."""

    def __init__(self, console: Console):
        self._console, self._counts, self._printed = console, defaultdict(int), time.monotonic()
        self._bar = Progress(console=console, disable=not console.is_terminal, transient=True)
        self._tasks: dict[str, Any] = {}

    def __call__(self, task: str, total: int) -> None:
        self._counts[task] += 1
        if task not in self._tasks:
            self._tasks[task] = self._bar.add_task(task, total=total)
        self._bar.advance(self._tasks[task])
        now = time.monotonic()
        if not self._console.is_terminal and now - self._printed > QUIET_SECONDS:
            self._printed = now
            self._console.print(f"{task}: {self._counts[task]}/{total}")

    def __enter__(self):
        self._bar.start()
        return self

    def __exit__(self, *exception):
        self._bar.stop()


def _print(console: Console, data: str, reports: Mapping[str, PartReport], findings: Sequence[Finding]) -> None:
    for name, report in reports.items():
        version = f" ({report.version})" if report.version else ""
        read = f", {report.read:,} of which could be read" if report.read != report.pairs else ""
        console.print(f"{name}: {_counted(report.pairs, 'pair')}{version}{read}")
        for protocol, scores in report.input.items():
            console.print(f"  rainy input, {protocol}: {scores['psnr']:.2f} dB / {scores['ssim']:.4f}")
        if report.fingerprint:
            console.print(f"  fingerprint {report.fingerprint}, of the clean images {report.clean_fingerprint}")
    kinds = defaultdict(list)
    for finding in findings:
        kinds[finding.part, finding.kind].append(finding)
    for (_, kind), found in kinds.items():
        common = len({finding.repair for finding in found}) == 1
        for finding in found[:SHOWN]:
            console.print(f"{kind}: {finding.problem}" + ("" if common else f"; {finding.repair}"))
        if len(found) > SHOWN:
            console.print(f"{kind}: and {len(found) - SHOWN} more; --json lists all")
        if common:
            console.print(f"  repair: {found[0].repair}")
    console.print(f"{data}: {_counted(len(findings), 'finding')}" if findings else f"{data}: nothing found")


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def main() -> int:
    """The command."""
    config = command.parse(AuditConfig, sys.argv[1:], prog="python -m data_pipelines.audit")
    console = command.console(stderr=config.json)
    with _Steps(console) as steps:
        reports, findings = audit(config, steps)
    if config.json:
        parts = {name: report._asdict() for name, report in reports.items()}
        everything = {"data": config.data, "parts": parts, "findings": [dataclasses.asdict(f) for f in findings]}
        print(json.dumps(command.finite(everything), allow_nan=False))
    else:
        _print(console, config.data, reports, findings)
    return 1 if findings else 0


if __name__ == "__main__":
    command.run(main)
