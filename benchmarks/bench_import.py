"""What importing costs over a Python that imports nothing."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time

from benchmarks.table import Row

LOOK = "\nprint(next(line for line in open('/proc/self/status') if line.startswith('VmRSS')).split()[1])"

SCRIPTS = {
    "import settled": "import settled",
    "import settled; settled.App, settled.AsyncResult": "import settled; settled.App, settled.AsyncResult",
    "import settled and open an SQLite store": "import settled; settled.connect('sqlite:////{folder}/i.db').get_state('a')",
}


def run(once: bool) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        scripts = {name: script.format(folder=folder) for name, script in SCRIPTS.items()}
        measured = _measured({"": "pass", **scripts}, folder, 1 if once else 21)
    rows = []
    for name in SCRIPTS:
        wall, size = (ours - bare for ours, bare in zip(measured[name], measured[""], strict=True))
        judged = name == "import settled"
        passed = wall <= 0.060 and size <= 12 if judged else None
        bound = "<= 60 ms, <= 12 MB" if judged else ""
        rows.append(Row(name, f"{wall * 1000:.0f} ms, {size:.1f} MB", bound, passed))
    return rows


def cost_of(before: str, script: str, rounds: int) -> float:
    """Seconds that `script` adds to a process that runs `before`."""
    with tempfile.TemporaryDirectory() as folder:
        measured = _measured({"": before, "more": f"{before}\n{script}"}, folder, rounds)
    return measured["more"][0] - measured[""][0]


def _measured(scripts: dict[str, str], folder: str, rounds: int) -> dict[str, tuple[float, float]]:
    """Seconds and MB of a process that runs each script, all in turn: of the fastest, as all else only adds to it."""
    # Compiled files are kept, as after any installation, whatever the environment here says.
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": folder}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in scripts}
    for number in range(rounds + 1):
        for name, script in scripts.items():
            begun = time.perf_counter()
            shown = subprocess.run(
                [sys.executable, "-c", script + LOOK],
                env=environment,
                capture_output=True,
                check=True,
                text=True,
            ).stdout
            if number:  # the first run compiles
                found[name].append((time.perf_counter() - begun, int(shown) / 1024))
    return {
        name: (min(wall for wall, _ in each), statistics.median(size for _, size in each))
        for name, each in found.items()
    }
