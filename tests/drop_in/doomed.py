"""A chord of two parts of which one dies, and what becomes of it."""

from __future__ import annotations

from pathlib import Path

from celery.exceptions import ChordError, WorkerLostError

from tests.drop_in.dying import CHILD
from tests.drop_in.faults import PATIENCE, ran
from tests.servers import until


class Doomed:
    """A chord of two parts, the second of which dies at a step.

    Args:
        acks: the name of its task.
        about: whom the step is about: the "part", the "body", or the "group" of the header.
        queue: of the part that dies.
    """

    def __init__(self, fleet, acks, step, about="part", what=CHILD, queue="celery"):
        self.fleet = fleet
        self.path, self.gate = fleet.path("ran"), fleet.path("gate")
        first = fleet.sig("early", self.path, 1, self.gate + "-1")
        last = fleet.sig(acks, self.path, 2, self.gate, queue=queue)
        then = fleet.sig("body", self.path)
        self.ids = [each.options["task_id"] for each in (first, last)]
        ids = {"part": self.ids[1], "body": then.options["task_id"]}
        self.order = fleet.order(step, ids[about], what) if about in ids else None
        self.body = fleet.chord([first, last], then)
        self.order = self.order or fleet.order(step, self.body.parent.id, what)

    def __repr__(self):
        return f"<{self.ids[1]} dies {self.order.path.name}>"

    def end_first(self):
        """Let the part end that is not to die, and wait until it is counted."""
        before = self.fleet.barrier(self.body.parent.id)
        Path(self.gate + "-1").touch()
        until(
            lambda: self.fleet.barrier(self.body.parent.id) != before, PATIENCE, f"the part of {self.ids[0]}"
        )

    def end_last(self):
        """Let the other end, and wait until it is dead."""
        until(lambda: f"accepted {self.ids[1]}" in self.fleet.said(), PATIENCE, f"a child for {self.ids[1]}")
        Path(self.gate).touch()
        until(lambda: self.order.done, PATIENCE, "the death")

    def finish(self):
        self.end_first()
        self.end_last()
        return self

    def has_run(self, parts=2):
        """The body has run once, with the results in order; the parts have run so often altogether."""
        assert self.body.get(timeout=PATIENCE) == [1, 2]
        self.fleet.ended(self.body)
        assert (ran(self.path, "body"), ran(self.path, "part")) == (1, parts)
        assert [self.fleet.state(each) for each in self.ids] == ["SUCCESS", "SUCCESS"]

    def has_failed(self):
        """The part is lost, and the body failed for it and has not run."""
        error = self.body.get(timeout=PATIENCE, propagate=False)
        assert isinstance(error, ChordError)
        assert self.ids[1] in str(error)
        self.fleet.ended(self.body)
        assert (ran(self.path, "body"), ran(self.path, "part")) == (0, 2)
        assert isinstance(self.fleet.app.AsyncResult(self.ids[1]).result, WorkerLostError)

    def seen_dead(self):
        """Wait until the worker has noticed what its child had done, and acknowledges it."""
        acked = f"[{self.ids[1]}] succeeded before the worker was lost"
        until(lambda: acked in self.fleet.said(), PATIENCE, "what the worker makes of it")
        return self

    def hangs(self, counted):
        """On Celery's own backend: all parts have succeeded, and nothing is left that would send the body."""
        until(lambda: not self.fleet.messages(), PATIENCE, "the end of all messages")
        assert [self.fleet.state(each) for each in self.ids] == ["SUCCESS", "SUCCESS"]
        assert self.fleet.barrier(self.body.parent.id) == (counted, 2, False)
        with self.fleet.store.client() as store:  # as if the claim had run out
            store.delete(f"celery-taskset-meta-{self.body.parent.id}.c")
        assert self.body.state == "PENDING"
        assert not self.fleet.messages()
