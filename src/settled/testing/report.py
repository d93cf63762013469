"""The table of engines and what each was proved to do."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from settled.testing.checks import CONTRACT
from settled.testing.contract import GROUPS, Check
from settled.testing.store import Store


class Verdict(NamedTuple):
    """One check on one engine; `error` is None if it passed."""

    check: Check
    error: BaseException | None


def examine(store_class: type[Store]) -> list[Verdict]:
    """Run every check that the engine's capabilities ask for, each on a store of its own."""
    return [
        Verdict(check, _failing(check, store_class))
        for check in CONTRACT.for_engine(store_class.engine.capabilities)
    ]


def _failing(check: Check, store_class: type[Store]) -> BaseException | None:
    with tempfile.TemporaryDirectory(prefix="settled-kit-") as folder, store_class(Path(folder)) as store:
        try:
            check.run(store)
        except Exception as exc:
            return exc
    return None


def report(store_classes: Iterable[type[Store]]) -> str:
    """Markdown: engines as columns, groups of checks as rows; what failed is listed below."""
    verdicts = {each.engine.__name__: examine(each) for each in store_classes}
    return "\n".join([*table(verdicts), *failures(verdicts)]) + "\n"


def table(verdicts: Mapping[str, Sequence[Verdict]]) -> list[str]:
    """A cell is "passed of applying"; "-" where the engine does not declare the capability."""
    lines = ["| checks | " + " | ".join(verdicts) + " |", "|---" * (len(verdicts) + 1) + "|"]
    for group in GROUPS:
        cells = [_cell([each for each in found if each.check.group == group]) for found in verdicts.values()]
        lines.append(f"| {group} | " + " | ".join(cells) + " |")
    return [*lines, "| **all** | " + " | ".join(_cell(found) for found in verdicts.values()) + " |"]


def _cell(verdicts: Sequence[Verdict]) -> str:
    if not verdicts:
        return "-"
    passed = sum(each.error is None for each in verdicts)
    return f"{passed} of {len(verdicts)}" if passed < len(verdicts) else f"{passed} ✓"


def failures(verdicts: Mapping[str, Sequence[Verdict]]) -> list[str]:
    return [
        f"- {engine}, {each.check.id}: {each.check.promise} {type(each.error).__name__}: {each.error!s:.300}"
        for engine, found in verdicts.items()
        for each in found
        if each.error is not None
    ]


def promises() -> list[str]:
    """Every check's sentence, by group, with what it needs."""
    lines = []
    for group in GROUPS:
        lines += ["", f"## {group}", ""]
        for check in CONTRACT:
            if check.group == group:
                needs = f" (needs {', '.join(check.needs)})" if check.needs else ""
                lines.append(f"- `{check.name}`: {check.promise}{needs}")
    return lines[1:]
