"""Several backends, and several processes, on one store."""

from __future__ import annotations

import os
import pickle
from functools import partial

from settled.backends.base import BaseBackend
from settled.record import Chord, Part, Settle
from settled.states import SUCCESS
from settled.testing import history
from settled.testing.checks.header import claim, count, opened, settle_part, standing
from settled.testing.contract import check
from settled.testing.processes import Job
from settled.testing.store import Store
from settled.testing.threads import Running, together

HERE = __name__


def _settled_by(backend: BaseBackend, task_id: str, value: object) -> str:
    return backend.mark_as_done(task_id, value).state


def _read_by(backend: BaseBackend, task_id: str) -> object:
    return backend.get_result(task_id)


@check("sharing")
def processes_see_each_others_records(store: Store) -> None:
    """What one process wrote another reads, and the other way round."""
    store.backend.mark_as_done("here", "from here")
    told = store.elsewhere(
        Job(f"{HERE}:_settled_by", {"task_id": "there", "value": "from there"}),
        Job(f"{HERE}:_read_by", {"task_id": "here"}),
    )
    assert [each.answer for each in told] == [SUCCESS, "from here"]
    assert store.backend.get_result("there") == "from there"


@check("sharing")
def backends_see_each_others_writes(store: Store) -> None:
    """Two backends of one process on one store see each other's writes, groups and forgetting at once."""
    one, two = store.backend, store.open()
    for number in range(20):
        one.mark_as_done(f"task-{number}", number)
        assert two.get_result(f"task-{number}") == number
        two.forget(f"task-{number}")
        assert one.get_state(f"task-{number}") == "PENDING"
    one.do_write_group("group", b"{}", None)
    assert two.do_read_group("group") is not None


def _first_of(backend: BaseBackend, tasks: int, writer: int) -> list[int]:
    """Writes SUCCESS to each task; the tasks whose write landed."""
    landed = []
    for task in range(tasks):
        payload = b'{"status": "SUCCESS", "result": %d}' % writer
        if backend.call(backend.do_settle, Settle(f"task-{task}", SUCCESS, payload)).landed:
            landed.append(task)
    return landed


@check("sharing", "guarded")
def one_of_racing_processes_lands(store: Store) -> None:
    """Of several processes that write SUCCESS at once exactly one lands for each task."""
    jobs = [Job(f"{HERE}:_first_of", {"tasks": 40, "writer": writer}) for writer in range(4)]
    landed: list[int] = []
    for writer, told in enumerate(store.elsewhere(*jobs)):
        assert isinstance(told.answer, list)
        landed += told.answer
        assert all(store.value(f"task-{task}") == writer for task in told.answer)
    assert sorted(landed) == list(range(40))


@check("sharing", "guarded")
def the_history_of_processes_is_linear(store: Store) -> None:
    """What concurrent processes wrote, read and were told fits some order of one operation after another."""
    jobs = [
        Job("settled.testing.history:performed", {"plan": plan})
        for plan in history.plans(writers=4, tasks=4, length=40)
    ]
    told = [history.operations_in(each.answer) for each in store.elsewhere(*jobs)]
    history.assert_linear([operation for each in told for operation in each])


def _parts_of(backend: BaseBackend, places: list[int]) -> int:
    """Settles these header tasks; how many of the writes got the claim."""
    claims = 0
    for place in places:
        task_id = f"group-{place}"
        payload = b'{"status": "SUCCESS", "result": %d}' % place
        write = Settle(task_id, SUCCESS, payload, part=Part("group", place), claim=claim(f"t{os.getpid()}"))
        claims += backend.call(backend.do_settle, write).claimed
    return claims


@check("sharing", "chords", "guarded")
def processes_count_one_chord(store: Store) -> None:
    """Parts settled by several processes at once, some by two of them, are counted once and claimed by one."""
    opened(store, 40)
    jobs = [Job(f"{HERE}:_parts_of", {"places": [*range(start, 40, 4), 0, 1]}) for start in range(4)]
    claims = [each.answer for each in store.elsewhere(*jobs)]
    assert len([each for each in claims if each]) == 1
    assert standing(store).parts == (SUCCESS,) * 40


def _leases_of(backend: BaseBackend, names: list[str]) -> list[str]:
    return sorted(backend.call(backend.do_lease, names, f"process-{os.getpid()}", 600.0))


@check("sharing", "leases", "guarded")
def processes_do_not_share_a_lease(store: Store) -> None:
    """Of several processes that take the same leases at once exactly one gets each."""
    names = [f"lease-{number}" for number in range(20)]
    told = store.elsewhere(*(Job(f"{HERE}:_leases_of", {"names": names}) for _ in range(4)))
    taken = [name for each in told for name in each.answer]  # type: ignore[attr-defined]
    assert sorted(taken) == sorted(names)
    assert store.backend.do_lease(names, "here", 600.0) == frozenset()


@check("sharing")
def another_backend_wakes_a_waiter(store: Store) -> None:
    """Whoever waits in one backend is told of a settle by another."""
    other = store.open()
    looks = store.faults.count(store.backend, "do_read")
    waiting = Running(lambda: store.backend.wait_for("task"))
    assert looks.reach(2, store.patience)
    other.mark_as_done("task", "value")
    assert waiting.result(store.patience) == "value"


@check("sharing")
def another_process_wakes_a_waiter(store: Store) -> None:
    """Whoever waits in one process is told of a settle in another."""
    looks = store.faults.count(store.backend, "do_read")
    waiting = Running(lambda: store.backend.wait_for("task"))
    assert looks.reach(2, store.patience)
    store.elsewhere(Job(f"{HERE}:_settled_by", {"task_id": "task", "value": "from there"}))
    assert waiting.result(store.patience) == "from there"


@check("sharing")
def a_backend_travels(store: Store) -> None:
    """A backend that was pickled and unpickled uses the same store with the same settings."""
    backend = store.open(result_serializer="msgpack")
    travelled = pickle.loads(pickle.dumps(backend))
    try:
        assert isinstance(travelled, BaseBackend)
        assert travelled.serializer == "msgpack"
        travelled.mark_as_done("task", 1)
        assert backend.get_result("task") == 1
    finally:
        travelled.close()


def _forked(backend: BaseBackend) -> list[object]:
    """Uses a backend, forks, and uses it in both: each reads what the other wrote."""
    backend.mark_as_done("before", 1)
    pid = os.fork()
    if pid == 0:
        seen = backend.get_result("before")
        backend.mark_as_done("child", seen)
        os._exit(0)
    status = os.waitpid(pid, 0)[1]
    backend.mark_as_done("after", 3)
    return [status, backend.get_result("child"), backend.get_result("after")]


@check("sharing")
def a_forked_child_has_its_own(store: Store) -> None:
    """A child that was forked with an open backend can use it, and so can its parent."""
    (told,) = store.elsewhere(Job(f"{HERE}:_forked"))
    assert told.answer == [0, 1, 3]
    assert store.backend.get_result("child") == 1


@check("sharing")
def ten_open_an_empty_store(store: Store) -> None:
    """Ten processes that open an empty store at the same moment can all use it."""
    jobs = [
        Job(f"{HERE}:_settled_by", {"task_id": f"task-{number}", "value": number}) for number in range(10)
    ]
    assert [each.answer for each in store.elsewhere(*jobs)] == [SUCCESS] * 10
    assert [store.backend.get_result(f"task-{number}") for number in range(10)] == list(range(10))


@check("sharing", "chords")
def another_process_sweeps(store: Store) -> None:
    """A chord that is left complete and undispatched in one process is sent by the sweep of another."""
    store.app.can_send = False
    store.backend.open_chord("group", ["a"], {"task": "kit.body", "options": {"task_id": "body"}})
    settle_part(store, "a", 0, "value")
    told = store.elsewhere(Job(f"{HERE}:_swept"))
    assert told[0].answer == 1
    assert store.app.journalled() == [("body", [["value"]])]


def _swept(backend: BaseBackend) -> int:
    return backend.sweep()


@check("sharing")
def threads_share_a_backend(store: Store) -> None:
    """Many threads use one backend at once: every write and read is its own."""

    def work(number: int) -> list[object]:
        told = []
        for step in range(15):
            store.backend.mark_as_done(f"task-{number}-{step}", [number, step])
            told.append(store.backend.get_result(f"task-{number}-{step}"))
        return told

    told = together(*(partial(work, number) for number in range(8)))
    assert told == [[[number, step] for step in range(15)] for number in range(8)]


@check("sharing", "chords")
def a_skewed_clock_harms_nothing(store: Store) -> None:
    """A process whose clock is a few seconds off counts, claims and reads like the others."""
    early, late = store.open(), store.open()
    store.faults.skew(early, -3.0)
    store.faults.skew(late, 3.0)
    early.do_open_chord(Chord("group", ("group-0", "group-1"), b"{}", "body"), None)
    late.do_settle(store.write("group-0", expires=600.0))
    assert early.get_state("group-0") == SUCCESS
    assert early.do_count_parts("group", None, None) is False
    assert count(store, 1, claim=claim("first")).claimed
    assert not late.do_claim_chord("group", claim("second"))
    assert not early.do_claim_chord("group", claim("second"))
