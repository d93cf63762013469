"""A benchmark's rows, and the table they are shown in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """One measured figure.

    `passed` is None where the figure has no bound.
    """

    name: str
    figure: str
    bound: str
    passed: bool | None


def table(rows: Sequence[Row], judge: bool) -> str:
    """The rows as aligned text; without `judge` the verdicts are left out."""
    cells = [("benchmark", "figure", "bound", "")]
    cells += [(row.name, row.figure, row.bound, _verdict(row) if judge else "") for row in rows]
    widths = [max(len(line[column]) for line in cells) for column in range(3)]
    lines = [
        f"{name:<{widths[0]}}  {figure:>{widths[1]}}  {bound:<{widths[2]}}  {verdict}".rstrip()
        for name, figure, bound, verdict in cells
    ]
    return "\n".join(lines)


def markdown(rows: Sequence[Row], judge: bool) -> str:
    """The rows as a Markdown table."""
    lines = ["| Measured | Figure | Bound | |", "|---|---|---|---|"]
    lines += [
        f"| {row.name} | {row.figure} | {row.bound.replace('<=', '≤').replace('>=', '≥')} "
        f"| {_verdict(row) if judge else ''} |"
        for row in rows
    ]
    return "\n".join(lines)


def _verdict(row: Row) -> str:
    return {True: "ok", False: "MISSED", None: ""}[row.passed]
