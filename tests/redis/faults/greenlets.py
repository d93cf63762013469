"""A program under gevent: `python -m tests.redis.faults.greenlets WHAT URL SERVER_PID`. Prints "well" at its end."""

# ruff: noqa: E402 - what is imported before it is patched stays as it is

from gevent import monkey

monkey.patch_all()

import os
import random
import signal
import sys

import gevent
from gevent.event import Event
from redis import Redis

from settled import connect
from settled.errors import TimeoutError

COUNT = 200
LIMIT = 10


def waited(greenlets):
    gevent.joinall(greenlets, timeout=60, raise_error=True)
    assert all(greenlet.dead for greenlet in greenlets)
    return [greenlet.value for greenlet in greenlets]


def store_and_wait(backend, url, pid):
    """200 greenlets store a result each, and wait for another's."""

    def work(number):
        backend.mark_as_done(f"task-{number}", number)
        return backend.wait_for(f"task-{(number + 1) % COUNT}", timeout=60)

    assert waited([gevent.spawn(work, number) for number in range(COUNT)]) == [*range(1, COUNT), 0]


def wait_for_others(backend, url, pid):
    """200 greenlets wait for what is stored by another backend, then."""
    other = connect(url)
    waiting = [gevent.spawn(backend.wait_for, f"task-{number}", timeout=60) for number in range(COUNT)]
    while backend.watcher.waiting < COUNT:
        gevent.sleep(0.001)
    for number in range(COUNT):
        other.mark_as_done(f"task-{number}", number)
    assert waited(waiting) == [*range(COUNT)]
    other.close()


def time_out_in_commands(backend, url, pid):
    """A command that is given up in the middle leaves its reply to nobody else."""
    for number in range(COUNT):
        backend.mark_as_done(f"task-{number}", number)
    given_up = []

    def work(number):
        chance = random.Random(number)
        for _ in range(20):
            task = chance.randrange(COUNT)
            try:
                with gevent.Timeout(chance.uniform(0.0, 0.02)):
                    assert backend.get_result(f"task-{task}") == task
            except gevent.Timeout:
                given_up.append(task)

    waited([gevent.spawn(work, number) for number in range(COUNT)])
    assert len(given_up) > 100, len(given_up)
    os.kill(pid, signal.SIGSTOP)
    try:
        with gevent.Timeout(0.2):
            backend.get_result("task-1")
        raise AssertionError("a server that is stopped answers")
    except gevent.Timeout:
        pass
    finally:
        os.kill(pid, signal.SIGCONT)
    for number in range(COUNT):
        assert backend.get_result(f"task-{number}") == number
    with Redis.from_url(url) as client:
        assert len(client.client_list()) <= LIMIT + 1


def kill_waiters(backend, url, pid):
    """Greenlets that are killed as they wait cost the others nothing, and leave nothing behind."""
    other = connect(url)
    waiting = [gevent.spawn(backend.wait_for, f"task-{number}", timeout=60) for number in range(COUNT)]
    while backend.watcher.waiting < COUNT:
        gevent.sleep(0.001)
    gevent.killall(waiting[::2], timeout=10)
    assert backend.watcher.waiting == COUNT // 2
    for number in range(COUNT):
        other.mark_as_done(f"task-{number}", number)
    assert waited(waiting[1::2]) == [*range(1, COUNT, 2)]
    assert backend.watcher.waiting == 0
    other.close()


def time_out_in_waits(backend, url, pid):
    """The wait's own timeout, and gevent's around it."""
    try:
        backend.wait_for("task", timeout=0.1)
        raise AssertionError("nobody has stored it")
    except TimeoutError:
        pass
    try:
        with gevent.Timeout(0.1):
            backend.wait_for("task", timeout=60)
        raise AssertionError("nobody has stored it")
    except gevent.Timeout:
        pass
    assert backend.watcher.waiting == 0
    backend.mark_as_done("task", "value")
    assert backend.wait_for("task", timeout=0) == "value"


def go_on_meanwhile(backend, url, pid):
    """A command under way keeps no other greenlet."""
    backend.mark_as_done("task", "value")
    os.kill(pid, signal.SIGSTOP)
    reading = gevent.spawn(backend.get_result, "task")
    turns = 0
    done = Event()
    gevent.spawn_later(0.2, done.set)
    while not done.is_set():
        gevent.sleep(0.001)
        turns += 1
    assert turns > 20
    assert not reading.dead
    os.kill(pid, signal.SIGCONT)
    assert waited([reading]) == ["value"]


if __name__ == "__main__":
    what, url, pid = sys.argv[1:]
    with connect(url) as backend:
        globals()[what](backend, url, int(pid))
    sys.stdout.write("well\n")
