"""Through Celery's own interface: this backend beside Celery's redis backend, on the same server."""

from __future__ import annotations

import statistics
import uuid
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from celery import Celery
from celery.app.task import Context
from celery.backends.base import Backend
from celery.result import AsyncResult, GroupResult

from benchmarks import celery_processes, celery_worker
from benchmarks.awake import awake
from benchmarks.bare import VALUES
from benchmarks.bench_import import cost_of
from benchmarks.pairs import Pair, at_most, folder, paired, quantile, summary, timed
from benchmarks.table import Row
from tests.celerys import close
from tests.servers import Server

COUNT = 1000
MANY = 10_000
JOINED = 1000
HEADER = 5000
THREADS = 8
VALUE = VALUES["nested dict"]


def run(once: bool) -> list[Row]:
    warnings.filterwarnings("ignore", category=DeprecationWarning, module="redis|celery")
    rounds, count, many = (1, 100, 500) if once else (11, COUNT, MANY)
    with awake(), Server.start("redis7") as server, apps(server.url, "settled+") as (ours, celerys):
        rows = [
            _store(ours, celerys, rounds, count),
            _life(ours, celerys, rounds, count),
            _fetch(ours, celerys, rounds, count),
            _part(ours, celerys, rounds, count),
            _many(ours, celerys, rounds, many),
            _threads(ours, celerys, rounds, count),
            _delay(ours, celerys, rounds, count),
            _memory(server, ours, celerys, count),
            _joined(ours, celerys, 1 if once else 7, 100 if once else JOINED),
            *_wake_up(server, 10 if once else 300),
            _chord(server, 1 if once else 3, 50 if once else HEADER),
        ]
    with (
        folder() as path,
        apps(f"sqlite:///{path}/", "", ("settled+{}ours.db", "db+{}celerys.db")) as (ours, celerys),
    ):
        rows += [_sql(ours, celerys, 1 if once else 3, 20 if once else 200)]
    rows.append(_import(once))
    return rows


@contextmanager
def apps(url: str, mark: str, forms: Sequence[str] = ()) -> Iterator[tuple[Celery, Celery]]:
    """Two apps that differ in their result backend alone: ours and Celery's own."""
    made = []
    for number, form in enumerate(forms or (mark + "{}", "{}")):
        app = Celery(f"bench-{number}", broker="memory://", set_as_current=False)
        app.conf.result_backend = form.format(url)
        made.append(app)
    try:
        yield made[0], made[1]
    finally:
        for app in made:
            close(app)


def _ids(count: int) -> list[str]:
    return [str(uuid.uuid4()) for _ in range(count)]


def _faster(name: str, pair: Pair, bound: float, count: int) -> Row:
    """A row for how many times as fast as Celery's own backend it is."""
    return Row(
        f"celery: {name}",
        f"{pair.wall:.2f} times ({pair.rates(count)})",
        f">= {bound:g} times",
        pair.wall >= bound,
    )


def _compared(
    ours: Celery, celerys: Celery, work: Callable[[Backend, Sequence[str]], object], rounds: int, count: int
) -> Pair:
    """The same work with ids of its own, given to one backend and then to the other."""
    return paired(
        lambda: _ids(count),
        lambda task_ids: work(ours.backend, task_ids),
        lambda task_ids: work(celerys.backend, [f"c{task_id[1:]}" for task_id in task_ids]),
        rounds,
    )


def _store(ours: Celery, celerys: Celery, rounds: int, count: int) -> Row:
    def work(backend: Backend, task_ids: Sequence[str]) -> None:
        for task_id in task_ids:
            backend.store_result(task_id, VALUE, "SUCCESS")

    return _faster("store_result", _compared(ours, celerys, work, rounds, count), 4, count)


def _request(task_id: str, **more: object) -> Context:
    known = {"id": task_id, "task": "pkg.task", "args": [1], "kwargs": {}, "hostname": "w@host", "retries": 0}
    return Context({**known, "delivery_info": {"routing_key": "celery"}, "children": [], **more})


def _life(ours: Celery, celerys: Celery, rounds: int, count: int) -> Row:
    """What one task costs its worker and whoever waits for it."""

    def work(backend: Backend, task_ids: Sequence[str]) -> None:
        for task_id in task_ids:
            request = _request(task_id)
            backend.store_result(task_id, {"pid": 1, "hostname": "w@host"}, "STARTED", request=request)
            backend.mark_as_done(task_id, VALUE, request=request)
            assert AsyncResult(task_id, backend=backend, app=backend.app).get(timeout=60) == VALUE

    count = max(1, count // 2)
    return _faster(
        "STARTED, done and get of a task", _compared(ours, celerys, work, rounds, count), 3.2, count
    )


def _stored(app: Celery, count: int) -> list[str]:
    task_ids = _ids(count)
    for task_id in task_ids:
        app.backend.store_result(task_id, VALUE, "SUCCESS")
    return task_ids


def _fetch(ours: Celery, celerys: Celery, rounds: int, count: int) -> Row:
    """By both from the same keys."""
    task_ids = _stored(ours, count)

    def work(app: Celery) -> None:
        for task_id in task_ids:
            app.backend.get_task_meta(task_id, cache=False)

    pair = paired(lambda: None, lambda _: work(ours), lambda _: work(celerys), rounds)
    return _faster("fetch a result", pair, 2.5, count)


def _part(ours: Celery, celerys: Celery, rounds: int, count: int) -> Row:
    """`mark_as_done` of header tasks; nobody completes the chord."""

    def opened(app: Celery) -> list[Context]:
        header = [app.AsyncResult(task_id) for task_id in _ids(count + 1)]
        group_id, body = str(uuid.uuid4()), app.signature("pkg.total", options={"task_id": str(uuid.uuid4())})
        app.backend.apply_chord((group_id, header), body)
        app.backend.set_chord_size(group_id, len(header))
        return [
            _request(each.id, group=group_id, group_index=place, chord=dict(body))
            for place, each in enumerate(header[:-1])
        ]

    def work(app: Celery, requests: Sequence[Context]) -> None:
        for request in requests:
            app.backend.mark_as_done(request.id, VALUE, request=request)

    pair = paired(
        lambda: (opened(ours), opened(celerys)),
        lambda given: work(ours, given[0]),
        lambda given: work(celerys, given[1]),
        rounds,
    )
    return _faster("mark_as_done of a chord's part", pair, 6.5, count)


def _many(ours: Celery, celerys: Celery, rounds: int, count: int) -> Row:
    task_ids = _stored(ours, count)

    def work(app: Celery) -> None:
        app.backend._cache.clear()
        assert sum(1 for _ in app.backend.get_many(task_ids)) == count

    pair = paired(lambda: None, lambda _: work(ours), lambda _: work(celerys), rounds)
    return _faster(f"get_many of {count:,}", pair, 2.5, count)


def _threads(ours: Celery, celerys: Celery, rounds: int, count: int) -> Row:
    with ThreadPoolExecutor(THREADS) as pool:

        def work(backend: Backend, task_ids: Sequence[str]) -> None:
            list(pool.map(lambda task_id: backend.store_result(task_id, VALUE, "SUCCESS"), task_ids))

        pair = _compared(ours, celerys, work, rounds, count)
    return _faster(f"{THREADS} threads storing", pair, 6, count)


def _delay(ours: Celery, celerys: Celery, rounds: int, count: int) -> Row:
    """Sending a task through the broker in this process; both send the same."""

    def work(app: Celery) -> None:
        send = app.signature("pkg.task", (1, 2)).delay
        with app.producer_or_acquire():
            for _ in range(count):
                send()

    def prepare() -> None:
        for app in (ours, celerys):
            with app.connection_for_write() as connection:
                connection.default_channel.queue_purge("celery")

    work(ours)
    pair = paired(prepare, lambda _: work(ours), lambda _: work(celerys), rounds)
    return _faster(".delay()", pair, 1.3, count)


def _memory(server: Server, ours: Celery, celerys: Celery, count: int) -> Row:
    """Bytes that the server needs for a result."""

    def used() -> int:
        with server.client() as client:
            return int(client.info("memory")["used_memory"])

    taken = []
    for app in (ours, celerys):
        server.ask("FLUSHALL")
        _stored(app, 1)
        before = used()
        _stored(app, count)
        taken.append((used() - before) / count)
    name = "celery: the server's memory of a result, ours to Celery's"
    return at_most(name, taken[0] / taken[1], 1, f"{taken[0]:,.0f} to {taken[1]:,.0f} bytes")


def _joined(ours: Celery, celerys: Celery, rounds: int, count: int) -> Row:
    """Joining results that another process stores meanwhile, in both cases by the same bare writes."""
    timings = []
    with celery_processes.writer(celerys.conf.result_backend) as write:
        for number in range(rounds + 1):
            turn = []
            for app in (ours, celerys) if number % 2 else (celerys, ours):
                task_ids = _ids(count)
                results = GroupResult(
                    str(uuid.uuid4()), [app.AsyncResult(each) for each in task_ids], app=app
                )

                def join() -> None:
                    write(task_ids, VALUE)  # noqa: B023 - called here
                    assert len(results.join_native(timeout=60)) == count  # noqa: B023

                turn.append(timed(join))
            timings.append((turn[0], turn[1]) if number % 2 else (turn[1], turn[0]))
    pair = summary(timings[1:])
    times = f"{pair.ours * 1e3:,.0f} to {pair.bare * 1e3:,.0f} ms"
    figure = f"{pair.wall:.1f} times, {pair.cpu:.1f} times less CPU ({times})"
    passed = pair.wall >= 7 and pair.cpu >= 4
    return Row(f"celery: joining {count:,} results as they arrive", figure, ">= 7 times, CPU >= 4", passed)


def _wake_up(server: Server, count: int) -> list[Row]:
    """From `store_result` returned in one process to `get` returned in another."""
    ours, celerys = (celery_processes.wake_ups(mark + server.url, count) for mark in ("settled+", ""))
    middle, theirs = statistics.median(ours), statistics.median(celerys)
    figure = f"median {middle:,.0f} us, 99th {quantile(ours, 0.99):,.0f} us; Celery's {theirs:,.0f} us"
    passed = middle <= 1000 and middle <= 0.45 * theirs
    return [Row("celery: wake-up across processes", figure, "<= 1,000 us, <= 0.45 of Celery's", passed)]


def _chord(server: Server, rounds: int, count: int) -> Row:
    """From the last header task published to the body's result, with a worker of two processes."""
    seconds: dict[str, list[float]] = {"settled+": [], "": []}
    for number in range(rounds):
        for mark in ("settled+", "") if number % 2 else ("", "settled+"):
            seconds[mark].append(celery_worker.chord_seconds(server, mark + server.url, count))
    ours, celerys = (statistics.median(seconds[mark]) for mark in ("settled+", ""))
    figure = f"{celerys / ours:.2f} times ({ours:.1f} s to {celerys:.1f} s)"
    return Row(f"celery: a chord of {count:,} with a worker", figure, ">= 2 times", celerys >= 2 * ours)


def _sql(ours: Celery, celerys: Celery, rounds: int, count: int) -> Row:
    """On SQLite files, beside `db+sqlite`."""

    def work(backend: Backend, task_ids: Sequence[str]) -> None:
        for task_id in task_ids:
            backend.store_result(task_id, VALUE, "SUCCESS")
        for task_id in task_ids:
            backend.get_task_meta(task_id, cache=False)

    return _faster("SQLite: store and fetch", _compared(ours, celerys, work, rounds, count), 50, count)


def _import(once: bool) -> Row:
    cost = cost_of(
        "import celery.app.trace, celery.bin.worker, celery.backends.base",
        "import settled.integrations.celery",
        1 if once else 15,
    )
    return Row(
        "celery: import settled.integrations.celery in a worker",
        f"{cost * 1e3:.0f} ms",
        "<= 50 ms",
        cost <= 0.05,
    )
