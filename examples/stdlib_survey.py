"""Measure Python files: two plain functions that know nothing of how, or how often, they are run.

    settled map stdlib_survey:measure python3.11/ast.py --reduce stdlib_survey:table

`examples/demo.py` runs them over the whole standard library.
"""

from __future__ import annotations

import ast
import os
import sysconfig
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import TypedDict

from settled.chords import Outcome

SHOWN = 12

Function = ast.FunctionDef | ast.AsyncFunctionDef

FORKS = (
    ast.FunctionDef, ast.AsyncFunctionDef, ast.If, ast.IfExp, ast.For, ast.AsyncFor, ast.While,
    ast.ExceptHandler, ast.Assert, ast.comprehension, ast.match_case,
)  # fmt: skip


class Measures(TypedDict):
    """What one file amounts to."""

    path: str
    lines: int
    functions: int
    classes: int
    complexity: int  # of all functions together
    worst: str  # the most complex function
    worst_complexity: int
    imports: list[str]


def library() -> Path:
    """The folder of the running Python's standard library."""
    return Path(sysconfig.get_path("stdlib"))


def files() -> list[str]:
    """Every `.py` file of the standard library, as `pythonX.Y/package/module.py`."""
    above = str(library().parent)
    found = []
    for folder, folders, names in os.walk(library()):
        folders[:] = [name for name in folders if name not in ("site-packages", "__pycache__")]
        place = os.path.relpath(folder, above).replace(os.sep, "/")
        found += [f"{place}/{name}" for name in names if name.endswith(".py")]
    return sorted(found)


def measure(path: str) -> Measures:
    """What one file amounts to. SyntaxError if it does not parse."""
    source = (library().parent / path).read_bytes()
    complexities: Counter[Function] = Counter()
    imports: set[str] = set()
    classes = 0
    for node, function in nodes(ast.parse(source, filename=path)):
        if function is not None:
            complexities[function] += forks(node)
        classes += isinstance(node, ast.ClassDef)
        imports.update(imported(node))
    worst, most = max(complexities.items(), key=itemgetter(1), default=(None, 0))
    return {
        "path": path,
        "lines": source.count(b"\n"),
        "functions": len(complexities),
        "classes": classes,
        "complexity": complexities.total(),
        "worst": f"{worst.name}, line {worst.lineno}" if worst else "",
        "worst_complexity": most,
        "imports": sorted(imports),
    }


def nodes(tree: ast.AST) -> Iterator[tuple[ast.AST, Function | None]]:
    """Every node of the tree, with the innermost function that it belongs to."""
    todo: list[tuple[ast.AST, Function | None]] = [(tree, None)]
    while todo:
        node, function = todo.pop()
        if isinstance(node, Function):
            function = node
        yield node, function
        todo.extend((child, function) for child in ast.iter_child_nodes(node))


def forks(node: ast.AST) -> int:
    """What a node adds to McCabe's cyclomatic complexity: a function has one way, each fork one more."""
    if isinstance(node, ast.BoolOp):
        return len(node.values) - 1
    return int(isinstance(node, FORKS))


def imported(node: ast.AST) -> Iterator[str]:
    """The top-level modules that an import statement names."""
    if isinstance(node, ast.Import):
        yield from (alias.name.partition(".")[0] for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
        yield node.module.partition(".")[0]


def table(outcomes: Sequence[Outcome]) -> str:
    """The largest and the most complex of the measured files, and what all of them amount to."""
    measured: list[Measures] = [each.value for each in outcomes if each.error is None]  # type: ignore[misc]
    names = Counter(name for each in measured for name in each["imports"])
    lines = sum(each["lines"] for each in measured)
    functions = sum(each["functions"] for each in measured)
    parts = [
        _rows("Largest modules", sorted(measured, key=lambda each: -each["lines"])),
        _rows("Most complex modules", sorted(measured, key=lambda each: -each["complexity"])),
        _worst(sorted(measured, key=lambda each: -each["worst_complexity"])),
        "Most imported: " + ", ".join(f"{name} ({count})" for name, count in names.most_common(8)),
        f"Measured: {len(measured):,} of {len(outcomes):,} files, {lines:,} lines, {functions:,} functions",
    ]
    return "\n\n".join(parts)


def _rows(title: str, ranked: Sequence[Measures]) -> str:
    header = f"{title:<44} {'lines':>8} {'functions':>10} {'complexity':>11}"
    rows = (
        f"{_short(each, 44)} {each['lines']:>8,} {each['functions']:>10,} {each['complexity']:>11,}"
        for each in ranked[:SHOWN]
    )
    return "\n".join([header, "-" * len(header), *rows])


def _worst(ranked: Sequence[Measures]) -> str:
    header = f"{'Most complex functions':<44} {'complexity':>10}  function"
    rows = (
        f"{_short(each, 44)} {each['worst_complexity']:>10,}  {each['worst']}"
        for each in ranked[: SHOWN // 2]
    )
    return "\n".join([header, "-" * 76, *rows])


def _short(measures: Mapping[str, object], width: int) -> str:
    path = str(measures["path"]).partition("/")[2]
    return f"{path if len(path) <= width else '…' + path[1 - width :]:<{width}}"
