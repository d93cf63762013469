"""The shape of the house: who may import whom, what the pure modules may touch, how long a module is.

The tables below are the rule; change them, with a reason, when the rule changes. Imports under
`if TYPE_CHECKING:` are exempt. Modules are named without the leading `settled.`; the package itself is "".
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "settled"

# A module imports from its own layer and from those above it. A name covers the modules under it;
# the longest name wins, so `backends` is every engine and `backends.base` is not one of them.
LAYERS: list[set[str]] = [
    {"states", "record", "failure", "errors", "url"},
    {"codec"},
    {"waiting", "delivery", "listening", "callbacks", "chords"},
    {"backends.protocols", "backends.engine", "backends.cache", "backends.tree"},
    {
        "backends.reading",
        "backends.frames",
        "backends.spool",
        "backends.backlog",
        "backends.outbox",
        "backends.writing",
        "backends.template",
        "backends.barrier",
        "backends.keyvalue",
        "backends.disabled",
        "backends.base",
    },
    {"backends"},
    {"results", "completion", "groups", "app", "executor", ""},
    {"integrations"},
    {"cli", "web", "__main__"},
    {"testing"},
]

PURE = LAYERS[0]
NO_IO = set(
    """
    asyncio concurrent ctypes fcntl fileinput glob http io logging mmap multiprocessing os pathlib queue
    random secrets select selectors shutil signal socket sqlite3 ssl subprocess tempfile threading time
    urllib.request
    """.split()
)
CLOCK_READS = {"now", "utcnow", "today"}

# Libraries that are not Python's own: these units may import any, the others the few named here.
UNCONFINED = {"backends", "integrations", "cli", "web", "__main__", "testing"}
LIBRARIES = {"msgspec"}
CODEC_LIBRARIES = LIBRARIES | {"msgpack", "yaml", "cryptography", "zstandard"}
CLIENTS = {"apsw", "celery", "distributed", "kombu", "psycopg", "redis", "rich"}

VAGUE_NAMES = {"util", "utils", "common", "helper", "helpers", "manager", "managers", "misc"}
MAX_LINES = 450


@dataclass(frozen=True, slots=True)
class Import:
    """One import statement's target: `settled.x.y` or a foreign module."""

    target: str
    line: int


def unit_of(module: str) -> str | None:
    """The name in LAYERS that covers `module`, or None."""
    names = {name for layer in LAYERS for name in layer}
    parts = module.split(".")
    prefixes = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((prefix for prefix in prefixes if prefix in names), None)


def layer_of(unit: str) -> int:
    return next(index for index, layer in enumerate(LAYERS) if unit in layer)


def modules_of(package: Path) -> dict[str, Path]:
    """Module name without the package's own -> file."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def _guards_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def _import_nodes(node: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """Every import statement that can run, inside a function too."""
    if isinstance(node, ast.If) and _guards_types(node):
        children: list[ast.AST] = list(node.orelse)
    else:
        children = list(ast.iter_child_nodes(node))
    for child in children:
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        else:
            yield from _import_nodes(child)


def _from_source(node: ast.ImportFrom, module: str, is_package: bool) -> str:
    """The absolute name of the module after `from`."""
    if not node.level:
        return node.module or ""
    here = ["settled", *filter(None, module.split("."))]
    base = here[: len(here) - node.level + is_package]
    return ".".join([*base, *filter(None, [node.module])])


def imports_of(module: str, path: Path, modules: set[str]) -> Iterator[Import]:
    for node in _import_nodes(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        else:
            source = _from_source(node, module, path.name == "__init__.py")
            submodules = [f"{source}.{alias.name}" for alias in node.names]
            targets = [name if name.removeprefix("settled.") in modules else source for name in submodules]
        for target in dict.fromkeys(targets):
            yield Import(target, node.lineno)


def layer_violations(package: Path) -> list[str]:
    """Modules in no layer, imports of a layer below, and one engine's import of another."""
    modules = modules_of(package)
    found = []
    for module, path in modules.items():
        unit = unit_of(module)
        if unit is None:
            found.append(f"{module} is in no layer")
            continue
        for imported in imports_of(module, path, set(modules)):
            name = imported.target.removeprefix("settled").removeprefix(".")
            if imported.target.split(".")[0] == "settled" and (why := _refusal(module, unit, name)):
                found.append(f"{module}:{imported.line} {why}")
    return found


def _refusal(module: str, unit: str, imported: str) -> str | None:
    target = unit_of(imported)
    shown = imported or "settled"
    if target is None:
        return f"imports {shown}, which is in no layer"
    if layer_of(target) > layer_of(unit):
        return f"imports {shown}, a layer below its own"
    engines = {name.split(".")[1] for name in (module, imported) if "." in name}
    if unit == target == "backends" and len(engines) > 1:
        return f"imports {shown}, another engine"
    return None


def library_violations(package: Path) -> list[str]:
    modules = modules_of(package)
    found = []
    for module, path in modules.items():
        unit = unit_of(module)
        if unit in UNCONFINED:
            continue
        libraries = CODEC_LIBRARIES if unit == "codec" else LIBRARIES
        for imported in imports_of(module, path, set(modules)):
            root = imported.target.split(".")[0]
            if root != "settled" and root not in sys.stdlib_module_names and root not in libraries:
                found.append(f"{module}:{imported.line} imports the library {root}")
    return found


def purity_violations(package: Path) -> list[str]:
    """I/O modules, `open`, `print` and readings of the clock in the pure modules."""
    modules = modules_of(package)
    found = []
    for module, path in modules.items():
        if unit_of(module) not in PURE:
            continue
        for imported in imports_of(module, path, set(modules)):
            if imported.target in NO_IO or imported.target.split(".")[0] in NO_IO:
                found.append(f"{module}:{imported.line} imports {imported.target}")
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and (name := _impure_call(node)):
                found.append(f"{module}:{node.lineno} calls {name}")
    return found


def _impure_call(node: ast.Call) -> str | None:
    called = ast.unparse(node.func)
    owner, _, name = called.rpartition(".")
    if called in {"open", "print", "input", "__import__"}:
        return called
    reads_clock = name in CLOCK_READS and owner.split(".")[-1] in {"date", "datetime"}
    return called if reads_clock else None


def vague_names(package: Path) -> list[str]:
    return [module for module in modules_of(package) if VAGUE_NAMES & set(module.split("."))]


def long_modules(package: Path) -> list[str]:
    lengths = {module: len(path.read_text().splitlines()) for module, path in modules_of(package).items()}
    return [
        f"{module} has {lines} lines, over {MAX_LINES}"
        for module, lines in lengths.items()
        if lines > MAX_LINES
    ]


RULES = [layer_violations, library_violations, purity_violations, vague_names, long_modules]


@pytest.mark.parametrize("rule", RULES)
def test_the_house_keeps_the_rule(rule):
    assert "states" in modules_of(PACKAGE)
    assert rule(PACKAGE) == []


@pytest.mark.parametrize("module", ["settled", "settled.backends.base"])
def test_importing_loads_no_client_library(module):
    program = f"import sys, {module}; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    assert CLIENTS.isdisjoint(loaded.split())


def _plant(package: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return package


@pytest.mark.parametrize(
    ("rule", "file", "text", "found"),
    [
        (
            layer_violations,
            "codec/json.py",
            "from settled.chords import Barrier",
            "codec.json:1 imports chords, a layer below its own",
        ),
        (
            layer_violations,
            "codec/json.py",
            "from .. import chords",
            "codec.json:1 imports chords, a layer below its own",
        ),
        (
            layer_violations,
            "codec/__init__.py",
            "from ..chords import Barrier",
            "codec:1 imports chords, a layer below its own",
        ),
        (layer_violations, "chords.py", "import settled", "chords:1 imports settled, a layer below its own"),
        (
            layer_violations,
            "chords.py",
            "def f():\n    from settled import app",
            "chords:2 imports app, a layer below its own",
        ),
        (
            layer_violations,
            "backends/base.py",
            "from settled import results",
            "backends.base:1 imports results, a layer below its own",
        ),
        (
            layer_violations,
            "backends/sqlite.py",
            "from settled.backends.memory import Memory",
            "backends.sqlite:1 imports backends.memory, another engine",
        ),
        (layer_violations, "helpers.py", "", "helpers is in no layer"),
        (
            library_violations,
            "backends/base.py",
            "def f():\n    import celery",
            "backends.base:2 imports the library celery",
        ),
        (library_violations, "record.py", "from apsw import Connection", "record:1 imports the library apsw"),
        (purity_violations, "record.py", "import os.path", "record:1 imports os.path"),
        (purity_violations, "record.py", "from time import time", "record:1 imports time"),
        (
            purity_violations,
            "record.py",
            "datetime.datetime.now(UTC)",
            "record:1 calls datetime.datetime.now",
        ),
        (purity_violations, "url.py", "text = open('x').read()", "url:1 calls open"),
        (vague_names, "backends/redis/utils.py", "", "backends.redis.utils"),
        (long_modules, "app.py", "\n" * (MAX_LINES + 1), f"app has {MAX_LINES + 1} lines, over {MAX_LINES}"),
    ],
)
def test_a_planted_violation_is_found(tmp_path, rule, file, text, found):
    package = _plant(
        tmp_path / "settled", {"__init__.py": "", "chords.py": "", "app.py": "", "results.py": "", file: text}
    )
    assert rule(package) == [found]


def test_what_is_allowed_is_not_reported(tmp_path):
    package = _plant(
        tmp_path / "settled",
        {
            "__init__.py": "from settled.results import AsyncResult",
            "states.py": "",
            "record.py": "from datetime import datetime\nfrom settled import states\nstamp = datetime.max",
            "chords.py": "if TYPE_CHECKING:\n    from settled.results import AsyncResult",
            "results.py": "from settled.backends.base import BaseBackend",
            "backends/base.py": "def f():\n    from settled.chords import Barrier",
            "backends/redis/__init__.py": "import redis\nfrom settled.backends.redis import lua",
            "backends/redis/lua.py": "from ..base import BaseBackend",
            "integrations/celery.py": "import celery\nimport settled",
        },
    )
    assert [rule(package) for rule in RULES] == [[]] * len(RULES)
