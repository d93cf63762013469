"""A Celery app that counts words. Nothing in it knows of settled: the URL of its results does.

CELERY_BROKER_URL=redis://localhost/1 CELERY_RESULT_BACKEND=settled+redis://localhost/0 celery -A tasks worker
"""

from __future__ import annotations

import re
import time
from collections import Counter
from pathlib import Path

from celery import Celery

app = Celery("celery_app")  # Celery reads the two URLs from the environment
app.conf.update(
    task_track_started=True,
    worker_prefetch_multiplier=1,
    worker_send_task_events=False,
    broker_connection_retry_on_startup=True,
)

WORD = re.compile(r"[^\W\d_]+")

Counts = dict[str, int]


class BadPage(Exception):
    """A page that cannot be counted. Made of keywords, so that its args alone would not bring it back."""

    def __init__(self, *, path, line):
        super().__init__(f"{path}, line {line}, is no text")
        self.path = path
        self.line = line


@app.task
def count_words(path: str) -> Counts:
    """How often each word is in a page, in lower case."""
    lines = Path(path).read_bytes().splitlines()
    counts: Counter[str] = Counter()
    for number, line in enumerate(lines, start=1):
        try:
            counts.update(WORD.findall(line.decode().lower()))
        except UnicodeDecodeError as exc:
            raise BadPage(path=path, line=number) from exc
    return dict(counts)


@app.task
def merge(parts: list[Counts]) -> Counts:
    """The counts of several pages together."""
    total: Counter[str] = Counter()
    for part in parts:
        total.update(part)
    return dict(total)


@app.task
def longest(counts: Counts, how_many: int) -> list[str]:
    """The longest words, the longest first."""
    return sorted(counts, key=lambda word: (-len(word), word))[:how_many]


@app.task(bind=True, max_retries=5)
def count_later(self, path: str) -> Counts:
    """Count a page that may not be there yet."""
    if not Path(path).exists():
        raise self.retry(countdown=0.1, exc=FileNotFoundError(path))
    return count_words(path)


@app.task(bind=True)
def follow(self, path: str) -> None:
    """Tell how many words a growing page has, until somebody revokes this."""
    told = -1
    while True:
        words = sum(count_words(path).values())
        if words != told:
            self.update_state(state="PROGRESS", meta={"words": words})
            told = words
        time.sleep(0.02)
