"""Engines that lose, reorder or hold up what they keep."""

from __future__ import annotations

import threading

from settled.backends.backlog import Backlog
from settled.errors import StoreUnavailable
from settled.record import Settled
from tests.keeping import KeepingMemory, KeepingSQLite
from tests.wrong_engines.proofs import breaks


class Lossy(KeepingMemory):
    """With a backlog of another kind."""

    backlog: type[Backlog] = Backlog

    @property
    def outbox(self):
        outbox = super().outbox
        outbox._backlog.__class__ = self.backlog
        return outbox


def draining() -> bool:
    """Whether this is the thread that makes what was kept."""
    return threading.current_thread().name == "settled-outbox"


@breaks("keeping.a_write_outlives_an_outage")
class KeepsNothing(KeepingMemory):
    def _settle_or_keep(self, write):
        try:
            return self.call(self.do_settle, write)
        except StoreUnavailable:
            return Settled(False, write.state, kept=True)


@breaks("keeping.one_outage_costs_one_deadline")
class AlwaysTriesFirst(KeepingMemory):
    def _settle_or_keep(self, write):
        try:
            return self.call(self.do_settle, write)
        except StoreUnavailable as exc:
            self.outbox.keep(write, exc)
            return Settled(False, write.state, kept=True)


class LastFirst(Backlog):
    def add(self, write):
        super().add(write)
        self._memory.appendleft(self._memory.pop())


@breaks("keeping.kept_writes_are_made_in_order")
class MakesTheLastFirst(Lossy):
    backlog = LastFirst


@breaks("keeping.a_kept_write_obeys_the_rule")
class ForcesWhatItKept(KeepingSQLite):
    def do_settle(self, write):
        if draining():
            self.do_forget((write.task_id,))
        return super().do_settle(write)


@breaks("keeping.a_kept_part_completes_its_chord", "keeping.waiters_are_told_when_it_is_made")
class MakesInSilence(KeepingMemory):
    def follow_up(self, write, settled):
        if not draining():
            super().follow_up(write, settled)


class FirstFew(Backlog):
    def add(self, write):
        if self.count < 5:
            super().add(write)


@breaks("keeping.a_full_memory_spills")
class DropsTheRest(Lossy):
    backlog = FirstFew


class Stuck(Backlog):
    def refuse(self, kept, error):
        raise OSError("refused: it is tried again")


@breaks("keeping.a_refused_write_holds_up_nobody")
class TriesRefusedAgain(Lossy):
    backlog = Stuck


@breaks("keeping.closing_leaves_a_spool")
class ForgetsWhenClosed(KeepingSQLite):
    def close(self):
        if self._outbox is not None:
            self._outbox._backlog.let_go()
        super().close()


@breaks("keeping.nothing_is_kept_while_the_store_answers")
class WritesBehind(KeepingMemory):
    def _settle_or_keep(self, write):
        self.outbox.keep(write, StoreUnavailable("not even tried"))
        return Settled(False, write.state, kept=True)


@breaks("keeping.what_nothing_can_hold_is_an_error")
class HidesThatItCannotKeep(KeepingMemory):
    def _settle_or_keep(self, write):
        try:
            return super()._settle_or_keep(write)
        except StoreUnavailable:
            return Settled(False, write.state, kept=True)
