"""SQLite in one process, against apsw alone doing the same work on a table of its own."""

from __future__ import annotations

import time
import uuid
from pathlib import Path

import settled
from benchmarks.bare import VALUES, BareTable, fast_decode, plain_decode, record_of
from benchmarks.pairs import Pair, at_least, folder, paired
from benchmarks.table import Row

WRITES = 4000  # so that the log is copied into the file in each turn of both
READS = 1000
MANY = 10_000


def run(once: bool) -> list[Row]:
    rounds = 1 if once else 31
    with folder() as path:
        rows = [_store(path, kind, max(1, rounds // 3), 500 if once else WRITES) for kind in VALUES]
        rows += _point_reads(path, rounds)
        rows += _many(path, max(1, rounds // 2), 500 if once else MANY)
    return rows


def _ids(count: int) -> list[str]:
    return [str(uuid.uuid4()) for _ in range(count)]


def _store(path: Path, kind: str, rounds: int, count: int) -> Row:
    """What is bare encodes nothing: it is handed the record as text."""
    value = VALUES[kind]
    record = record_of(value)
    table = BareTable(path / f"bare-{kind}.db")
    with settled.connect(f"sqlite:///{path}/{kind}.db") as backend:

        def ours(task_ids: list[str]) -> None:
            for task_id in task_ids:
                backend.store_result(task_id, value, "SUCCESS")

        pair = paired(
            lambda: _ids(count), ours, lambda task_ids: table.upsert(task_ids, record, time.time()), rounds
        )
    table.close()
    return at_least(f"sqlite: store_result, {kind} of 500 bytes / upsert", pair.wall, 0.5, pair.rates(count))


def _point_reads(path: Path, rounds: int) -> list[Row]:
    value = VALUES["dict"]
    table = BareTable(path / "bare-reads.db")
    task_ids = _ids(READS)
    table.upsert(task_ids, record_of(value), time.time())
    with settled.connect(f"sqlite:///{path}/reads.db") as backend:
        for task_id in task_ids:
            backend.store_result(task_id, value, "SUCCESS")

        def metas(_: None) -> None:
            for task_id in task_ids:
                backend.get_task_meta(task_id)

        def results(_: None) -> None:
            for task_id in task_ids:
                backend.get_result(task_id)

        def pair(ours: object, decode: object) -> Pair:
            return paired(lambda: None, ours, lambda _: table.read(task_ids, decode), rounds)  # type: ignore[arg-type]

        fast, result, plain = pair(metas, fast_decode), pair(results, fast_decode), pair(metas, plain_decode)
    table.close()
    return [
        at_least("sqlite: get_task_meta / SELECT + msgspec", fast.wall, 0.4, fast.rates(READS)),
        at_least("sqlite: get_result / SELECT + msgspec", result.wall, 0.4, result.rates(READS)),
        Row(
            "sqlite: get_task_meta / SELECT + json.loads",
            f"{plain.wall:.0%} ({plain.rates(READS)})",
            "",
            None,
        ),
    ]


def _many(path: Path, rounds: int, count: int) -> list[Row]:
    value = VALUES["dict"]
    table = BareTable(path / "bare-many.db")
    task_ids = _ids(count)
    with table.db:
        table.upsert(task_ids, record_of(value), time.time())
    with settled.connect(f"sqlite:///{path}/many.db") as backend:
        for task_id in task_ids:
            backend.store_result(task_id, value, "SUCCESS")

        def ours(_: None) -> None:
            assert len(dict(backend.get_many(task_ids))) == count

        fast = paired(lambda: None, ours, lambda _: table.read_range(task_ids, fast_decode), rounds)
        plain = paired(lambda: None, ours, lambda _: table.read_range(task_ids, plain_decode), rounds)
    table.close()
    name = f"sqlite: get_many of {count:,} / ranged SELECT"
    return [
        at_least(f"{name} + msgspec", fast.wall, 0.6, fast.rates(count)),
        Row(f"{name} + json.loads", f"{plain.wall:.0%} ({plain.rates(count)})", "", None),
    ]
