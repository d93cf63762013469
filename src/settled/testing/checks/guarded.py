"""The rule against writers at the same moment."""

from __future__ import annotations

from functools import partial

from settled.states import FAILURE, STARTED, SUCCESS
from settled.testing import history
from settled.testing.contract import check
from settled.testing.store import Store
from settled.testing.threads import together


@check("guarded")
def one_of_racing_successes_lands(store: Store) -> None:
    """Of several SUCCESSes written at once exactly one lands, and that is the one stored."""
    for task in range(10):
        settled = together(*(partial(store.settle, f"task-{task}", SUCCESS, writer) for writer in range(6)))
        landed = [writer for writer, each in enumerate(settled) if each.landed]
        assert len(landed) == 1
        assert store.value(f"task-{task}") == landed[0]
        assert {each.state for each in settled} == {SUCCESS}


@check("guarded")
def a_racing_start_never_wins(store: Store) -> None:
    """A STARTED written at the same moment as a ready state is never what remains."""
    for task in range(10):
        task_id = f"task-{task}"
        ready = (SUCCESS, FAILURE)[task % 2]
        late, done = together(
            partial(store.settle, task_id, STARTED, "late"), partial(store.settle, task_id, ready, "done")
        )
        assert done.landed
        assert late.state == (STARTED if late.landed else ready)
        assert (store.state(task_id), store.value(task_id)) == (ready, "done")


@check("guarded")
def the_history_of_threads_is_linear(store: Store) -> None:
    """What concurrent threads wrote, read and were told fits some order of one operation after another."""
    plans = history.plans(writers=4, tasks=3, length=36)
    told = together(*(partial(history.perform, store.backend, plan) for plan in plans))
    history.assert_linear([operation for each in told for operation in each])
