"""What the README and the documentation show is run, as it stands there, in a folder of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]

SURVEY = """
paths = ["a", "bb", "ccc", ""]

def measure(path):
    return 10 // len(path)

def merge(outcomes):
    return [outcome.value if outcome.error is None else type(outcome.error).__name__ for outcome in outcomes]
"""

JOB = """
def inputs():
    return [3, 2, 1, 0]

def process(number):
    return 6 // number
"""


def blocks(page: str, language: str = "python") -> list[str]:
    """The fenced blocks of one language in a page, without their indentation."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)
    return [text for named, text in fenced if named == language]


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=60)


def run_block(folder: Path, text: str) -> str:
    (folder / "program.py").write_text(text)
    done = run(folder, sys.executable, "program.py")
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_readme_is_short_and_its_example_runs_twice(tmp_path):
    assert len((ROOT / "README.md").read_text().splitlines()) <= 100
    (tmp_path / "survey.py").write_text(SURVEY)
    [example] = blocks("README.md")
    for _ in range(2):
        assert run_block(tmp_path, example) == "[10, 5, 3, 'ZeroDivisionError']\n"


def test_the_tutorial_can_be_followed(tmp_path):
    work, program, waiting = blocks("docs/tutorial/index.md")
    (tmp_path / "work.py").write_text(work.replace("time.sleep(0.2)", "time.sleep(0)"))
    commands = [
        line.removeprefix(".venv/bin/").split()
        for block in blocks("docs/tutorial/index.md", "")
        for line in block.splitlines()
        if line.startswith(".venv/bin/settled")
    ]
    first, ls, show, failing = commands
    for _ in range(2):
        assert run(tmp_path, *first).stdout.splitlines()[-1] == "204"
    listed = run(tmp_path, *ls)
    assert "work.slow_square" in listed.stdout
    task_id = next(line.split()[0] for line in listed.stdout.splitlines() if "work.slow_square" in line)
    assert run(tmp_path, *show[:-1], task_id).returncode == 0
    failed = run(tmp_path, *failing)
    assert failed.returncode == 1
    assert "ValueError" in failed.stderr
    done = run_block(tmp_path, program)
    assert sorted(int(line.split()[1]) for line in done.splitlines()) == [n * n for n in range(100)]
    call = f'\nasyncio.run(main("{done.split()[0]}"))\n'
    assert run_block(tmp_path, waiting + call).strip() == done.split()[1]


def test_the_guide_to_long_jobs_runs(tmp_path):
    (tmp_path / "job.py").write_text(JOB)
    [program] = blocks("docs/how-to/long-job.md")
    assert "ZeroDivisionError" in run_block(tmp_path, program.replace("retries=3", "retries=0"))


def test_the_guide_to_asyncio_runs(tmp_path):
    [program] = blocks("docs/how-to/asyncio-service.md")
    called = """
app.backend.mark_as_done("one", 1)
app.backend.mark_as_done("two", 2)
print(asyncio.run(report(["one", "two"])), asyncio.run(first(["one"])))
"""
    assert run_block(tmp_path, program + called) == "[1, 2] 1\n"


def test_the_guide_to_dask_runs(tmp_path):
    (tmp_path / "job.py").write_text(JOB)
    [program] = blocks("docs/how-to/dask.md")
    program = program.replace('Client("scheduler:8786")', "Client(processes=False, dashboard_address=None)")
    program = program.replace("sqlite:////shared/job.db", "sqlite:///job.db")
    assert run_block(tmp_path, program).count("Handle") == 4


def test_the_smallest_engine_runs(tmp_path):
    [engine] = blocks("docs/how-to/write-an-engine.md")[:1]
    used = """
import settled
backend = DictBackend(settled.App("memory://"))
backend.mark_as_done("one", {"a": 1})
print(backend.wait_for("one", timeout=5), backend.get_state("two"))
"""
    assert run_block(tmp_path, engine + used) == "{'a': 1} PENDING\n"
