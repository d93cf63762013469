"""`settled ls`: what is stored, the latest write first."""

from __future__ import annotations

import shutil
import sys
import time
from argparse import Namespace
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import TypeVar

import msgspec

from settled.backends.base import BaseBackend
from settled.cli import store, text
from settled.errors import DecodeError
from settled.record import Meta, Query, Row
from settled.states import EXCEPTION_STATES

T = TypeVar("T")

BATCH = 500
HEADER = ("ID", "STATE", "WHEN", "TOOK", "CALL")
WIDE_CALL = 40


def run(arguments: Namespace) -> int:
    """List what matches; status 0, also where nothing does."""
    query = Query(
        states=tuple(arguments.state or ()),
        name=arguments.name,
        group_id=arguments.group,
        since=None if arguments.since is None else time.time() - arguments.since,
        limit=store.EVERYTHING if arguments.limit == 0 else arguments.limit + 1,
    )
    with store.opened(arguments.backend) as backend:
        store.need_queries(backend)
        rows = backend.query(query)
        wanted = rows if arguments.limit == 0 else islice(rows, arguments.limit)
        if arguments.json:
            for line in json_lines(backend, wanted):
                print(line)
            return 0
        listed = _print_table(backend, wanted)
        if next(rows, None) is not None:
            print(f"... and more: the first {listed:,} are shown; --limit 0 lists all", file=sys.stderr)
        elif not listed:
            print("nothing matches", file=sys.stderr)
    return 0


def json_lines(backend: BaseBackend, rows: Iterable[Row]) -> Iterator[str]:
    """One JSON object for each row: its columns, the call as far as it is known, and a failure's reason."""
    for row, meta in _with_records(backend, rows):
        fields: dict[str, object] = msgspec.structs.asdict(row)
        fields["call"] = text.call(meta, row.name)
        if row.state in EXCEPTION_STATES:
            fields["reason"] = text.reason(meta)
        yield text.json_line(fields)


def _print_table(backend: BaseBackend, rows: Iterable[Row]) -> int:
    listed = 0
    now = time.time()
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
    for batch in _batches(_with_records(backend, rows)):
        cells = [HEADER] if not listed else []
        cells += [_cells(row, meta, now) for row, meta in batch]
        lines = text.columns(cells)
        if not listed:
            print(_fitted(lines.pop(0), width))
        for line, (row, meta) in zip(lines, batch, strict=True):
            print(_fitted(line, width))
            if row.state in EXCEPTION_STATES:
                print(_fitted(f"    {text.reason(meta)}", width))
        listed += len(batch)
    return listed


def _cells(row: Row, meta: Mapping[str, object], now: float) -> tuple[str, str, str, str, str]:
    ended = row.done if row.done is not None else row.started
    when = text.age(now - (ended if ended is not None else row.created))
    took = "" if row.done is None or row.started is None else text.duration(max(0.0, row.done - row.started))
    return text.short_id(row.task_id), text.one_line(row.state), when, took, text.call(meta, row.name)


def _fitted(line: str, width: int) -> str:
    return text.clip(line, width) if width else line


def _with_records(backend: BaseBackend, rows: Iterable[Row]) -> Iterator[tuple[Row, Meta]]:
    """Each row with its record; a record that cannot be read says so in the place of its reason."""
    for batch in _batches(rows):
        try:
            metas = backend.read_many([row.task_id for row in batch])
        except DecodeError:
            metas = dict(_one_by_one(backend, batch))
        for row in batch:
            yield row, metas.get(row.task_id, {})


def _one_by_one(backend: BaseBackend, rows: Iterable[Row]) -> Iterator[tuple[str, Meta]]:
    for row in rows:
        try:
            yield from backend.read_many((row.task_id,)).items()
        except DecodeError as exc:
            yield row.task_id, {"result": f"cannot be read: {exc}"}


def _batches(items: Iterable[T]) -> Iterator[list[T]]:
    iterator = iter(items)
    while batch := list(islice(iterator, BATCH)):
        yield batch
