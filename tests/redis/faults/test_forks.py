"""A process forks, at whatever moment: parent and child both go on, each on connections of its own."""

from __future__ import annotations

import threading

import pytest

from settled.testing.threads import Running
from tests.redis.faults.child import Child, Witness, connected_to, sockets
from tests.redis.faults.load import BODY, PATIENCE, missing, settle_part, value_of
from tests.servers import until

NAME = "settled-under-test"


@pytest.fixture
def others():
    """The sockets that are not the backend's."""
    return sockets()


def connections(server):
    """Address by id of our connections."""
    with server.client() as client:
        return {each["id"]: each["addr"] for each in client.client_list() if each["name"] == NAME}


def subscribed(server, task_id):
    channel = f"celery-task-meta-{task_id}"
    return server.ask("PUBSUB", "NUMSUB", channel)[1]


def use(backend, who, turns=20):
    """Write, read and wait as `who`."""
    for turn in range(turns):
        task_id = f"{who}-{turn}"
        assert backend.mark_as_done(task_id, value_of(task_id))
        assert backend.get_result(task_id) == value_of(task_id)
        assert backend.wait_for(task_id, timeout=PATIENCE) == value_of(task_id)


def test_a_fork_after_use_leaves_both_at_work_on_their_own_connections(server, others, connect):
    backend = connect(server, client_name=NAME)
    use(backend, "before")
    parents, inherited = connections(server), sockets() - others

    def work():
        use(backend, "child")
        return sorted(sockets() & inherited)

    with Witness(server) as witness:
        child = Child(work)
        use(backend, "parent")
        assert child.answer() == []
        assert not witness.askers("child-") & set(parents.values())
    assert connections(server) == parents
    assert missing(server, [f"{who}-{turn}" for who in ("parent", "child") for turn in range(20)]) == []


def test_a_fork_with_an_open_listener_leaves_both_listening(server, others, connect):
    backend, other = connect(server, client_name=NAME), connect(server)
    waiting = Running(lambda: backend.wait_for("parent", timeout=PATIENCE))
    until(lambda: subscribed(server, "parent"), PATIENCE, "the parent's subscription")
    parents, inherited = connections(server), sockets() - others

    def work():
        told = backend.wait_for("child", timeout=PATIENCE)
        return [told, sorted(sockets() & inherited)]

    with Witness(server) as witness:
        child = Child(work)
        until(lambda: subscribed(server, "child"), PATIENCE, "the child's subscription")
        assert not witness.askers("child") & set(parents.values())
    assert subscribed(server, "parent") == 1
    other.mark_as_done("child", "for the child")
    other.mark_as_done("parent", "for the parent")
    assert child.answer() == ["for the child", []]
    assert waiting.result(PATIENCE) == "for the parent"
    assert parents.items() <= connections(server).items()


def test_a_fork_while_another_thread_is_in_a_command_disturbs_neither(proxy, connect):
    backend = connect(proxy, client_name=NAME)
    backend.mark_as_done("task", "value")
    inherited = connected_to(proxy.port)
    proxy.delay(0.2)
    asked = proxy.request_bytes
    reading = Running(lambda: backend.get_result("task"))
    until(lambda: proxy.request_bytes > asked, PATIENCE, "the command of the other thread")

    def work():
        use(backend, "child", turns=1)
        return sorted(sockets() & inherited)

    child = Child(work)
    assert reading.result(PATIENCE) == "value"
    assert child.answer() == []
    assert backend.get_result("task") == "value"


def test_forks_at_any_moment_of_busy_threads_leave_every_child_able_to_work(server, connect):
    backend, other = connect(server, client_name=NAME), connect(server)
    over = threading.Event()

    def work(name):
        turn = 0
        while not over.is_set():
            use(backend, f"{name}-{turn}", turns=1)
            other.mark_as_done(f"{name}-{turn}-other", 1)
            assert backend.wait_for(f"{name}-{turn}-other", timeout=PATIENCE) == 1
            turn += 1

    threads = [Running(lambda number=number: work(f"thread-{number}")) for number in range(4)]
    for number in range(30):
        Child(lambda number=number: use(backend, f"child-{number}", turns=2)).answer()
    over.set()
    for thread in threads:
        thread.result(PATIENCE)
    assert missing(server, [f"child-{number}-{turn}" for number in range(30) for turn in range(2)]) == []


def test_a_child_is_not_kept_by_a_lock_that_a_thread_of_its_parent_held(server, connect):
    backend = connect(server, max_cached_results=0)
    with backend._lock, backend._cache._lock:
        child = Child(lambda: use(backend, "child"))
    child.answer()
    use(backend, "parent")


def test_a_childs_end_leaves_the_parents_connections_open(server, connect):
    backend = connect(server, client_name=NAME)
    use(backend, "before")
    parents = connections(server)

    def work():
        use(backend, "child")
        backend.close()

    Child(work).answer()
    Child(backend.close).answer()
    Child(lambda: None).answer()
    assert connections(server) == parents
    use(backend, "parent")
    assert connections(server) == parents


def test_a_child_completes_the_chord_that_its_parent_opened(server, connect):
    backend = connect(server)
    backend.open_chord("group", ["group-0", "group-1"], BODY)
    settle_part(backend, "group", 0)

    def work():
        settle_part(backend, "group", 1)
        return [sent.task_id for sent in backend.app.sent]

    assert len(Child(work).answer()) == 1
    assert backend.chord_state("group").done
