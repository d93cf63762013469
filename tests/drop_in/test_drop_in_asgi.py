"""Results of a Celery app awaited in FastAPI and in Django, each served by uvicorn; a worker, a broker and a store."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from celery import Celery

from tests.drop_in.conftest import OURS
from tests.drop_in.fleet import ROOT, Worker
from tests.servers import Proxy, Server, until
from tests.servers.leash import Leashed
from tests.servers.port import Port

GUIDE = ROOT / "docs" / "how-to" / "celery.md"

PATIENCE = 30.0

CROWD = 500
"""Requests at once."""

PARKED = "parked"
"""A queue that the worker takes nothing from before it is told to."""


class Site:
    """A web server, whose way to the store leads through `proxy`; `http` is a client of it."""

    def __init__(self, program, folder, conf, proxy):
        """`program` is what uvicorn serves: `module:app`, the module being in `folder` or of this repository."""
        self.proxy = proxy
        self.port = Port.take()
        self.output = folder / f"{program}.log"
        self.url = f"http://127.0.0.1:{self.port.number}"
        self.http = httpx.Client(base_url=self.url, timeout=PATIENCE)
        self._process = Leashed(
            [sys.executable, "-m", "uvicorn", program, "--port", str(self.port.number)],
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(map(str, [ROOT, folder])),
                "SETTLED_DROP_IN": json.dumps({**conf, "result_backend": OURS + proxy.url}),
            },
            output=self.output,
        )
        try:
            until(self._answers, PATIENCE, f"an answer, see {self.output}", despite=(httpx.TransportError,))
        except BaseException:
            self.close()
            raise

    def _answers(self):
        assert not self._process.ended(), self.output.read_text()
        return self.http.get("/no-such-page").status_code == 404

    @property
    def threads(self):
        """As the kernel counts them."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(next(line.split()[1] for line in status.splitlines() if line.startswith("Threads:")))

    def get(self, path, **params):
        return self.http.get(path, params=params)

    def close(self):
        self.http.close()
        self._process.end(15)
        self.port.release()


class Fleet:
    """What is behind the web servers."""

    def __init__(self, folder, broker, store):
        self.folder = folder
        self.broker = broker
        self.store = store
        self.conf = {
            "broker_url": broker.url,
            "result_backend": OURS + store.url,
            "task_routes": {"tests.drop_in.work.total": {"queue": PARKED}},
            "worker_prefetch_multiplier": 100,
            "task_track_started": False,
        }
        self.app = Celery("asgi", set_as_current=False)
        self.app.conf.update(self.conf)
        self.worker = Worker(folder, self.conf)
        self._raw = store.client()

    def awaited(self):
        """The channels of results that somebody waits for, as the store knows them."""
        return self._raw.pubsub_channels("celery-task-meta-*")

    def listeners(self):
        """The connections on which somebody listens."""
        return self._raw.client_list(_type="pubsub")

    def serve_parked(self):
        self.app.control.add_consumer(PARKED, reply=True, timeout=PATIENCE, limit=1)

    def close(self):
        self.worker.stop()
        self._raw.close()
        self.app.close()

    def park(self):
        """No worker takes from that queue any more, and nothing is left there."""
        self.app.control.cancel_consumer(PARKED, reply=True, timeout=PATIENCE, limit=1)
        self.broker.ask("DEL", PARKED)


@pytest.fixture(scope="module")
def machinery(tmp_path_factory):
    with (
        Server.start("redis7") as broker,
        Server.start("redis7") as store,
        closing(Fleet(tmp_path_factory.mktemp("asgi"), broker, store)) as fleet,
    ):
        fleet.worker.start()
        yield fleet


FASTAPI, DJANGO = "tests.drop_in.asgi_fastapi:app", "tests.drop_in.asgi_django:app"


@pytest.fixture(scope="module", params=[FASTAPI, DJANGO])
def site(request, machinery):
    with (
        Proxy(machinery.store.port) as proxy,
        closing(Site(request.param, machinery.folder, machinery.conf, proxy)) as site,
    ):
        yield site


@pytest.fixture
def fleet(machinery):
    yield machinery
    machinery.park()


async def bare_get(site, path):
    """What is answered, decoded: by a socket alone, since there are many."""
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port.number)
    writer.write(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    return json.loads(answer.partition(b"\r\n\r\n")[2])


def let_go(site, fleet):
    """Wait until nothing is listened for. The store is told when somebody waits again, or seconds later."""
    until(
        lambda: site.get("/add", x=1, y=1) and not fleet.awaited(), PATIENCE, "the end of the registrations"
    )


def test_a_result_is_awaited(site):
    assert site.get("/add", x=2, y=2).json() == {"value": 4}


def test_results_are_gathered_in_order(site):
    assert site.get("/gather", count=50).json() == {"value": [2 * n for n in range(50)]}


def test_results_are_streamed_as_they_are_completed(site, tmp_path):
    gate = tmp_path / "gate"
    with site.http.stream("GET", "/stream", params={"gate": str(gate), "count": 10}) as response:
        lines = response.iter_lines()
        assert sorted(json.loads(next(lines)) for _ in range(10)) == [2 * n for n in range(10)]
        gate.touch()
        assert [json.loads(line) for line in lines] == ["late"]


def test_an_error_is_the_tasks_own(site):
    response = site.get("/fail")
    assert (response.status_code, response.json()["error"]) == (409, "as the task has it")


def test_a_wait_is_bounded_by_asyncio_timeout(site, fleet):
    assert site.get("/late", timeout=0.2).status_code == 504
    let_go(site, fleet)


def test_a_request_that_is_cancelled_lets_go(site, fleet):
    with site.http.stream("GET", "/watch") as response:
        lines = response.iter_lines()
        assert next(lines) == "waiting"
        until(lambda: len(fleet.awaited()) == 3, PATIENCE, "three registrations")
    let_go(site, fleet)


@pytest.mark.parametrize("site", [DJANGO], indirect=True)
def test_a_view_that_is_cancelled_lets_go(site, fleet):
    """Django cancels any view whose client has left, Starlette only what streams."""

    async def leave():
        async with httpx.AsyncClient(base_url=site.url, timeout=PATIENCE) as http:
            request = asyncio.ensure_future(http.get("/parked", params={"number": 1}))
            await asyncio.to_thread(until, fleet.awaited, PATIENCE, "the registration")
            request.cancel()
            await asyncio.gather(request, return_exceptions=True)

    asyncio.run(leave())
    let_go(site, fleet)


def test_sending_costs_no_command_at_the_store(site, fleet):
    site.get("/add", x=1, y=1)
    until(lambda: not fleet.listeners(), PATIENCE, "the end of what waiting does")
    before = (site.proxy.request_bytes, site.proxy.connections)
    sent = site.get("/send", count=100).json()["sent"]
    assert len(sent) == fleet.broker.ask("LLEN", PARKED) == 100
    assert (site.proxy.request_bytes, site.proxy.connections) == before
    # And the meter runs: a request that waits is seen.
    site.get("/add", x=1, y=1)
    assert site.proxy.request_bytes > before[0]


def test_a_crowd_awaits_without_a_thread_for_each(site, fleet):
    site.get("/add", x=1, y=1)
    before = site.threads

    async def crowd():
        requests = [asyncio.ensure_future(bare_get(site, f"/parked?number={n}")) for n in range(CROWD)]
        await asyncio.to_thread(until, lambda: len(fleet.awaited()) == CROWD, PATIENCE, "the crowd")
        threads = site.threads
        await asyncio.to_thread(fleet.serve_parked)
        return threads, await asyncio.gather(*requests)

    threads, answers = asyncio.run(crowd())
    assert answers == [{"value": n} for n in range(CROWD)]
    assert threads <= before + 2
    let_go(site, fleet)


def test_the_guide_to_celery_runs(machinery):
    (program,) = re.findall(r"^```python\n(.*?)^```$", GUIDE.read_text(), re.DOTALL | re.MULTILINE)
    (machinery.folder / "shop").mkdir()
    (machinery.folder / "shop" / "tasks.py").write_text("from tests.drop_in.work import add\n")
    (machinery.folder / "guide.py").write_text(program)
    with (
        Proxy(machinery.store.port) as proxy,
        closing(Site("guide:api", machinery.folder, machinery.conf, proxy)) as site,
    ):
        assert site.get("/sum", x=2, y=2).json() == 4
        assert site.get("/sums", count=5).json() == [0, 2, 4, 6, 8]
