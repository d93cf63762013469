"""The subscribed connection is lost, again and again."""

from __future__ import annotations

import asyncio
import threading

import pytest

from settled.testing.threads import Running
from tests.redis.faults.load import PATIENCE, value_of
from tests.servers import until

COUNT = 200


def kill_listeners(client):
    return client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")


def settle_between_kills(server, backend, task_ids):
    """Settle the tasks, a few at a time, after each time that the listener was killed."""
    with server.client() as client:
        for start in range(0, len(task_ids), 10):
            until(lambda: kill_listeners(client), PATIENCE, "a listener to kill")
            for task_id in task_ids[start : start + 10]:
                backend.mark_as_done(task_id, value_of(task_id))


def test_everybody_is_told_though_the_listener_is_killed_again_and_again(server, connect):
    waiting, settling = connect(server), connect(server)
    task_ids = [f"task-{number}" for number in range(COUNT)]
    waits = [Running(lambda each=each: waiting.wait_for(each, timeout=PATIENCE)) for each in task_ids]
    until(lambda: waiting.watcher.waiting == COUNT, PATIENCE, "the waits")
    settle_between_kills(server, settling, task_ids)
    assert [wait.result(PATIENCE) for wait in waits] == [value_of(each) for each in task_ids]


def test_every_future_is_resolved_though_the_listener_is_killed_again_and_again(server, connect):
    waiting, settling = connect(server), connect(server)
    task_ids = [f"task-{number}" for number in range(COUNT)]

    async def main():
        handles = [waiting.app.AsyncResult(each) for each in task_ids]
        settled = asyncio.to_thread(settle_between_kills, server, settling, task_ids)
        told = await asyncio.wait_for(asyncio.gather(settled, *map(value, handles)), PATIENCE)
        return told[1:]

    async def value(handle):
        return await handle

    assert asyncio.run(main()) == [value_of(each) for each in task_ids]


def test_who_begins_to_wait_while_listeners_are_killed_is_told(server, connect):
    waiting, settling = connect(server), connect(server)
    over = threading.Event()

    def kill():
        with server.client() as client:
            while not over.is_set():
                kill_listeners(client)

    killing = Running(kill)
    for number in range(100):
        wait = Running(lambda number=number: waiting.wait_for(f"task-{number}", timeout=PATIENCE))
        until(lambda: waiting.watcher.waiting, PATIENCE, "the wait")
        settling.mark_as_done(f"task-{number}", number)
        assert wait.result(PATIENCE) == number
    over.set()
    killing.result(PATIENCE)


@pytest.mark.parametrize(
    ("safety_poll", "timeout"), [(0.3, PATIENCE), (PATIENCE, 0.5)], ids=["poll", "timeout"]
)
def test_what_was_written_and_not_told_is_found_all_the_same(
    server, connect, monkeypatch, safety_poll, timeout
):
    monkeypatch.setattr("settled.waiting.SAFETY_POLL", safety_poll)
    backend = connect(server)
    wait = Running(lambda: backend.wait_for("task", timeout=timeout))
    until(lambda: server.ask("PUBSUB", "CHANNELS"), PATIENCE, "the subscription")
    server.ask("SET", "celery-task-meta-task", '{"status": "SUCCESS", "result": "value"}')
    assert wait.result(PATIENCE) == "value"
